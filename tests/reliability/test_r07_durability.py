"""R7: what an operating-system crash can cost, on a model of the page cache.

The model: everything before the last sync of a file is kept; of the writes after it any subset may be missing. A
missing write leaves zeros when a later one survived, and nothing when it was the last.
"""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from gradience_emit import TelemetryWriter, segments, spool
from tests.emit import oracle

SYNC_S = 5.0


class Recorder:
    """Records the writes and syncs of a segment, with the time of each, on a clock of its own."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.log: list[tuple[float, bytes | None]] = []
        real_write, real_sync = segments._write, segments._sync

        def write(descriptor: int, data: bytes) -> int:
            self.log.append((self.now, data))
            return real_write(descriptor, data)

        def sync(descriptor: int) -> None:
            self.log.append((self.now, None))
            real_sync(descriptor)

        patch.setattr(segments, "_write", write)
        patch.setattr(segments, "_sync", sync)
        patch.setattr(spool, "_now", lambda: self.now)

    def at_crash(self, calls: int) -> tuple[bytes, list[tuple[float, bytes]]]:
        """After that many system calls: the bytes that are safe, and the writes that are not yet."""
        synced = max((index for index in range(calls) if self.log[index][1] is None), default=-1)
        safe = b"".join(data for _, data in self.log[:synced] if data is not None)
        return safe, [(time, data) for time, data in self.log[synced + 1 : calls] if data is not None]


def after_crash(safe: bytes, pending: list[tuple[float, bytes]], survives: tuple[bool, ...]) -> bytes:
    """The file after a crash in which only some of the pending writes reached the disk."""
    image = safe
    for (_, data), survived in zip(pending, survives, strict=True):
        image += data if survived else b"\x00" * len(data)
    return image.rstrip(b"\x00")


def readable(image: bytes) -> list[dict[str, Any]]:
    """The records that a reader finds, line by line."""
    records = []
    for line in image.split(b"\n"):
        try:
            records.append(oracle.strict_loads(line.lstrip(b"\x00")))
        except ValueError:
            continue
    return records


def recorded_run(path: Path, patch: pytest.MonkeyPatch) -> Recorder:
    """A run of a few minutes: steps every 0.7 s, an error, a guard action, a large event, an end."""
    recorder = Recorder(patch)
    chance = random.Random(7)
    with TelemetryWriter(path, sync_every_s=SYNC_S, allow_text=True) as writer:
        writer.run_start({"model_name": "m"})
        for step in range(60):
            recorder.now += chance.uniform(0.4, 1.0)
            writer.train_step(step, loss=0.5, text="x" * (700_000 if step % 25 == 24 else 10))
            if step == 30:
                writer.alert(severity="error", code="C", message="m")
            if step == 40:
                writer.metrics(step, kind="guard", metrics={"action": "rollback"})
    return recorder


def test_a_crash_costs_at_most_five_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given any crash point and any lost subset of unsynced writes, when read, then at most 5 s are missing."""
    recorder = recorded_run(tmp_path / "run.jsonl", monkeypatch)
    chance = random.Random(8)
    crashes = 0
    for calls in range(1, len(recorder.log) + 1):
        safe, pending = recorder.at_crash(calls)
        acknowledged = pending if recorder.log[calls - 1][1] is None else pending[:-1]
        last_sync = max((time for time, data in recorder.log[:calls] if data is None), default=0.0)
        assert all(time - last_sync < SYNC_S for time, _ in acknowledged)
        assert sum(len(data) for _, data in acknowledged) < 1 << 20
        expected = [record["seq"] for record in readable(safe)]
        assert expected == list(range(len(expected)))
        subsets = list(itertools.product((True, False), repeat=len(pending)))
        for survives in chance.sample(subsets, min(len(subsets), 8)):
            records = readable(after_crash(safe, pending, survives))
            found = [record["seq"] for record in records]
            assert found[: len(expected)] == expected
            kept = [oracle.strict_loads(data)["seq"] for (_, data), ok in zip(pending, survives, strict=True) if ok]
            assert found[len(expected) :] == kept
            crashes += 1
    print(f"R7: {crashes} simulated crashes over {len(recorder.log)} system calls")


def test_what_must_be_on_the_disk_is_there_when_the_call_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given run_start, run_end, an error alert and a guard action, when each call returns, then nothing is pending."""
    recorder = recorded_run(tmp_path / "run.jsonl", monkeypatch)
    urgent = {"run_start", "run_end", "alert", "metrics"}
    for index, (_, data) in enumerate(recorder.log):
        if data is not None and oracle.strict_loads(data)["event"] in urgent:
            assert recorder.log[index + 1][1] is None, f"no sync after {data[:120]!r}"


def test_each_event_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a whole run, when its system calls are looked at, then every write is one line and its newline."""
    recorder = recorded_run(tmp_path / "run.jsonl", monkeypatch)
    writes = [data for _, data in recorder.log if data is not None]
    assert len(writes) == 64
    assert all(data.endswith(b"\n") and data.count(b"\n") == 1 for data in writes)


@pytest.mark.parametrize("keep", range(0, 400, 13))
def test_after_a_crash_the_file_can_be_continued(tmp_path: Path, keep: int) -> None:
    """Given a file cut at any byte, or ending in zeros, when it is continued, then old and new records are whole."""
    path = tmp_path / "run.jsonl"
    writer = TelemetryWriter(path, "r")
    writer.run_start({})
    writer.train_step(1)
    writer.close()
    data = path.read_bytes()[:keep]
    for image in (data, data + b"\x00" * 64):
        path.write_bytes(image)
        with TelemetryWriter(path, "r", if_exists="append") as again:
            again.train_step(2)
        records = readable(path.read_bytes())
        assert [record["event"] for record in records][-2:] == ["train_step", "run_end"]
        assert len(records) == data.count(b"\n") + 2
