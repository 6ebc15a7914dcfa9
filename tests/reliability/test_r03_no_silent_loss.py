"""R3: every lost event shows: as a gap in ``seq``, and in the dropped count."""

from __future__ import annotations

import errno
import logging
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradience_emit import TelemetryWriter, segments, spool
from tests.emit import oracle

ACTIONS = st.lists(
    st.sampled_from(
        ["event", "event", "event", "urgent", "bug", "disk fails", "short writes", "disk works", "time passes"]
    ),
    max_size=60,
)


class World:
    """A disk and a clock that follow a script."""

    def __init__(self) -> None:
        self.state = "disk works"
        self.now = 0.0
        self._write = segments._write

    def write(self, descriptor: int, data: bytes) -> int:
        """``os.write`` on the disk of the day."""
        if self.state == "disk fails":
            raise OSError(errno.ENOSPC, "full")
        return self._write(descriptor, data if self.state == "disk works" else data[:-2])


class Counter:
    """Passes calls on and counts them."""

    def __init__(self, call: Any) -> None:
        self.count = 0
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        """The call, counted."""
        self.count += 1
        return self._call(*arguments)


@settings(max_examples=300, deadline=None)
@given(ACTIONS, st.integers(1, 6), st.booleans())
def test_read_is_attempted_minus_reported_lost(actions: list[str], ring_size: int, works_at_last: bool) -> None:
    """Given any sequence of events, faults and outages, when the file is read, then nothing is missing unreported."""
    logging.getLogger("gradience_emit").setLevel(logging.CRITICAL)
    world = World()
    attempted = 0
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(segments, "_write", world.write)
        patch.setattr(spool, "_now", lambda: world.now)
        writer = TelemetryWriter(Path(folder) / "run.jsonl", ring_size=ring_size)
        announcements = Counter(writer._announce)
        patch.setattr(writer, "_announce", announcements)
        for action in actions:
            if action == "event":
                writer.train_step(attempted)
            elif action == "urgent":
                writer.alert(severity="error", code="C", message="m")
            elif action == "bug":
                with patch.context() as inner:
                    inner.setattr(writer._encoder, "encode", lambda *_: 1 / 0)
                    writer.train_step(attempted)
            elif action == "time passes":
                world.now += 6.0
            else:
                world.state = action
            attempted += action in {"event", "urgent", "bug"}
        if works_at_last:
            world.state = "disk works"
        writer.run_end()
        attempted += 1
        writer.close()
        records = oracle.read_strict(writer.path)
        numbers = [record["seq"] for record in records]
        assert len(records) + writer.dropped == attempted + announcements.count, "a loss is not counted"
        assert numbers == sorted(set(numbers))
        if works_at_last:
            reported = max((record.get("dropped_events", 0) for record in records), default=0)
            assert reported == writer.dropped, "a loss is not in the file"
    logging.getLogger("gradience_emit").setLevel(logging.NOTSET)
