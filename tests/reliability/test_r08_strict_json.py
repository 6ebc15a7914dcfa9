"""R8: strict RFC 8259 and UTF-8 out of any payload, one line within 1 MiB, at most 64 levels, and no exception."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradience_emit import MAX_LINE_BYTES, TelemetryWriter
from gradience_emit.encode import MAX_DEPTH
from tests.emit import oracle, payloads
from tests.reliability.lengths import lengths

FIELDS = st.dictionaries(
    payloads.PLAIN_TEXT | st.sampled_from(["loss", "lr", "metrics", "ts"]), payloads.ODD, max_size=5
)


class Tap:
    """Reads what a writer appends, one call at a time."""

    def __init__(self, writer: TelemetryWriter) -> None:
        self.writer = writer
        self._file: io.BufferedReader = writer.path.open("rb")

    def logged(self, **payload: Any) -> dict[str, Any]:
        """Log one event and parse, strictly, the one line it left."""
        self.writer.log("train_step", 1, **payload)
        data = self._file.read()
        assert data.endswith(b"\n")
        assert data.count(b"\n") == 1
        assert len(data) <= MAX_LINE_BYTES
        record: dict[str, Any] = oracle.strict_loads(data)
        assert oracle.depth(record) <= MAX_DEPTH
        assert self.writer.dropped == self.writer.faults == 0
        return record

    def close(self) -> None:
        """Close the writer and its file."""
        self.writer.close()
        self._file.close()


@lengths("examples", 2_000, 20_000)
def test_any_payload_is_one_strict_line(examples: int) -> None:
    """Given payloads of every kind, hostile ones too, when logged, then a strict parser accepts each line."""
    with tempfile.TemporaryDirectory() as folder:
        tap = Tap(TelemetryWriter(Path(folder) / "run.jsonl"))

        @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(FIELDS)
        def check(fields: dict[str, Any]) -> None:
            oracle.restored(tap.logged(**fields))

        check()
        tap.close()


@lengths("examples", 500, 20_000)
def test_round_trip(examples: int) -> None:
    """Given plain values with NaN and infinities anywhere, when read back, then they are equal, type and all."""
    with tempfile.TemporaryDirectory() as folder:
        tap = Tap(TelemetryWriter(Path(folder) / "run.jsonl"))

        @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(payloads.WITH_NONFINITE)
        def check(value: Any) -> None:
            assert oracle.same(oracle.restored(tap.logged(value=value))["value"], value)

        check()
        tap.close()
