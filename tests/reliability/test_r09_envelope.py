"""R9: no payload overrides the envelope; keys that collide are kept apart and reported."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradience_emit import TelemetryWriter
from gradience_emit.record import RESERVED
from gradience_schema import SCHEMA_ID, load_schema, schema_files
from tests.emit import oracle, payloads
from tests.reliability.lengths import lengths

ENVELOPE = sorted(schema_files()["envelope.schema.json"]["properties"])
KEYS = st.sampled_from(
    [*ENVELOPE, *(f"x_{key}" for key in ENVELOPE), "x_x_ts", "a@example.com", "b@example.com", "plain"]
)


def test_the_reserved_names_are_those_of_the_schema() -> None:
    """Given the published envelope, when its fields are listed, then the emitter protects exactly these."""
    assert sorted(RESERVED) == ENVELOPE
    assert load_schema()


@lengths("examples", 500, 20_000)
def test_the_envelope_is_ours_and_every_value_is_found(examples: int) -> None:
    """Given payload keys that the envelope uses, when logged, then the envelope is true and each value stands apart."""
    with tempfile.TemporaryDirectory() as folder:
        writer = TelemetryWriter(Path(folder) / "run.jsonl", "the run")
        with writer.path.open("rb") as file:

            @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(st.dictionaries(KEYS, payloads.INTEGERS | payloads.PLAIN_TEXT, max_size=12))
            def check(payload: dict[str, Any]) -> None:
                step = payload.pop("step", None)
                before = writer._encoder.seq
                writer.log("my_event", 7, **payload)
                record = oracle.strict_loads(file.read())
                assert (record["schema"], record["run_id"], record["event"]) == (SCHEMA_ID, "the run", "my_event")
                assert (record["step"], record["seq"]) == (7, before)
                assert record["ts"] > 1e9
                renamed = {pointer[1:]: key for pointer, key in record.get("renamed", {}).items()}
                values = [value for key, value in record.items() if key not in RESERVED]
                assert sorted(map(repr, values)) == sorted(map(repr, payload.values()))
                for key, value in payload.items():
                    clean = "[EMAIL]" if "@" in key else key
                    names = [clean, *(name for name, original in renamed.items() if original == clean)]
                    assert any(name in record and oracle.same(record[name], value) for name in names)
                assert step is None or isinstance(step, (int, str))

            check()
        writer.close()


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(payloads.ODD_KEYS, st.integers(), max_size=8))
def test_colliding_keys_inside_a_payload(mapping: dict[Any, int]) -> None:
    """Given keys of several types that are one text, when logged, then as many values are read as were written."""
    with tempfile.TemporaryDirectory() as folder:
        with TelemetryWriter(Path(folder) / "run.jsonl") as writer:
            writer.log("my_event", mapping=mapping)
        record = oracle.read_strict(writer.path)[0]
        assert sorted(map(int, record["mapping"].values())) == sorted(mapping.values())
        for pointer in record.get("renamed", {}):
            parent, key = oracle.locate(record, pointer)
            assert key in parent
