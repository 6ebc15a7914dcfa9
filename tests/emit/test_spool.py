"""The spool: outages, the ring, files that vanish, and when data goes to the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from gradience_emit import TelemetryWriter, segments, spool
from tests.emit import oracle


class Disk:
    """Stands between the emitter and the system calls; counts them, and fails them on demand."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.fault: int | None = None
        self.syncs = 0
        self.now = 0.0
        self._write, self._sync = segments._write, segments._sync
        patch.setattr(segments, "_write", self.write)
        patch.setattr(segments, "_sync", self.sync)
        patch.setattr(spool, "_now", lambda: self.now)

    def write(self, descriptor: int, data: bytes) -> int:
        """``os.write`` or the fault of the day."""
        if self.fault is not None:
            raise OSError(self.fault, os.strerror(self.fault))
        return self._write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """``fdatasync``, counted."""
        if self.fault is not None:
            raise OSError(self.fault, os.strerror(self.fault))
        self.syncs += 1
        self._sync(descriptor)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk that works until told otherwise, and a clock that stands still until moved."""
    return Disk(monkeypatch)


def test_an_outage_delays_and_loses_nothing(tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    """Given a full disk for a while, when space returns, then all events are there in order, and a telemetry_gap."""
    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        writer.run_start({})
        disk.fault = errno.ENOSPC
        for step in range(10):
            writer.train_step(step)
        disk.fault = None
        writer.train_step(10)  # within the 5 s: nothing is tried
        assert len(oracle.read_strict(writer.path)) == 1
        disk.now += 5.0
        writer.train_step(11)
    records = oracle.read_strict(writer.path)
    assert [record["seq"] for record in records] == list(range(15))
    assert [record["step"] for record in records[1:13]] == list(range(12))
    gap = records[13]["context"]
    assert (records[13]["code"], records[13]["severity"]) == ("telemetry_gap", "warning")
    assert gap == {"delayed": 12, "lost": 0, "seconds": 5.0}
    assert records[-1]["event"] == "run_end"
    assert "dropped_events" not in records[-1]
    assert sum("cannot be written" in message for message in caplog.messages) == 1


def test_a_full_ring_counts_what_it_drops_and_keeps_run_start(tmp_path: Path, disk: Disk) -> None:
    """Given a disk that is full from the start, when the ring overflows, then run_start stays, the loss is told."""
    disk.fault = errno.ENOSPC
    with TelemetryWriter(tmp_path / "run.jsonl", ring_size=10) as writer:
        writer.run_start({"model_name": "m"})
        for step in range(30):
            writer.train_step(step)
        assert writer.dropped == 21
        disk.fault = None
        disk.now += 5.0
        writer.train_step(30)
    records = oracle.read_strict(writer.path)
    assert [record["event"] for record in records] == ["run_start", *["train_step"] * 9, "alert", "run_end"]
    assert [record["step"] for record in records[1:10]] == list(range(22, 31))
    assert records[10]["context"]["lost"] == records[10]["dropped_events"] == records[-1]["dropped_events"] == 22
    assert records[-1]["seq"] + 1 - len(records) == 22


def test_a_ring_of_alarms_keeps_run_start_too(tmp_path: Path, disk: Disk) -> None:
    """Given more urgent alerts than the ring holds, when it overflows, then run_start is not the one to go."""
    disk.fault = errno.EIO
    with TelemetryWriter(tmp_path / "run.jsonl", ring_size=5) as writer:
        writer.run_start({})
        for step in range(20):
            writer.alert(severity="critical", code="C", message="m", step=step)
        disk.fault = None
    assert oracle.read_strict(writer.path)[0]["event"] == "run_start"


def test_the_ring_is_bounded_in_bytes(tmp_path: Path, disk: Disk) -> None:
    """Given events of almost 1 MiB and no disk, when 100 wait, then the ring holds at most 64 MiB."""
    disk.fault = errno.ENOSPC
    writer = TelemetryWriter(tmp_path / "run.jsonl", allow_text=True)
    for step in range(100):
        writer.train_step(step, text="x" * 1_000_000)
    assert writer._spool.waiting == 67  # 64 MiB of lines of 1,000,000 bytes
    assert writer.dropped == 100 - writer._spool.waiting
    disk.fault = None
    writer.close()


def test_what_could_never_be_written_is_counted_and_said(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """Given a disk that never comes back, when the writer closes, then the loss is counted and warned about."""
    disk.fault = errno.EROFS
    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        writer.train_step(1)
    assert writer.dropped == 2
    assert "2 telemetry events could not be written" in caplog.text


@pytest.mark.parametrize("how", ["unlink", "replace"])
def test_a_file_that_vanishes_is_followed_by_a_new_one_with_its_run_start(tmp_path: Path, disk: Disk, how: str) -> None:
    """Given a deleted or replaced file, when the next sync sees it, then the run goes on in a file that begins well."""
    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        writer.run_start({"model_name": "m"})
        writer.path.unlink()
        if how == "replace":
            writer.path.write_text("somebody else's\n")
        disk.now += 5.0
        writer.train_step(1)  # goes to the deleted file, and the sync notices
        disk.now += 5.0
        writer.train_step(2)
    records = oracle.read_strict(writer.path)
    assert writer.path.name == ("run.jsonl" if how == "unlink" else "run.1.jsonl")
    assert [record["event"] for record in records] == ["run_start", "train_step", "alert", "run_end"]
    assert [record["seq"] for record in records] == [0, 2, 3, 4]
    if how == "replace":
        assert (tmp_path / "run.jsonl").read_text() == "somebody else's\n"


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EBADF])
def test_a_stale_handle_is_opened_again(tmp_path: Path, disk: Disk, code: int) -> None:
    """Given a network disk that forgot the handle, when it is back, then the same file is continued without a gap."""
    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        writer.run_start({})
        disk.fault = code
        writer.train_step(1)
        assert writer.path.name == "run.jsonl"
        disk.fault, disk.now = None, disk.now + 5.0
        writer.train_step(2)
    records = oracle.read_strict(tmp_path / "run.jsonl")
    assert [record["seq"] for record in records] == list(range(5))


def test_a_folder_that_appears_later(tmp_path: Path, disk: Disk) -> None:
    """Given a path below a file, when the file makes way for a folder, then what waited is written."""
    (tmp_path / "out").write_text("in the way")
    with TelemetryWriter(tmp_path / "out" / "run.jsonl", if_exists="append") as writer:
        writer.run_start({})
        (tmp_path / "out").unlink()
        disk.now += 5.0
        writer.train_step(1)
    assert [record["seq"] for record in oracle.read_strict(writer.path)] == [0, 1, 2, 3]


def test_late_append_never_mixes_two_runs(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an old file that could not be opened at first, when it can, then the waiting run gets its own file."""
    with TelemetryWriter(tmp_path / "run.jsonl", "old") as old:
        old.train_step(1)
    before = old.path.read_bytes()
    real_open = segments._open

    def refuse(*_: Any) -> int:
        raise OSError(errno.EIO, "down")

    monkeypatch.setattr(segments, "_open", refuse)
    with TelemetryWriter(old.path, "new", if_exists="append") as writer:
        writer.run_start({})
        monkeypatch.setattr(segments, "_open", real_open)
        disk.now += 5.0
        writer.train_step(1)
    assert old.path.read_bytes() == before
    assert [record["seq"] for record in oracle.read_strict(writer.path)] == [0, 1, 2, 3]


def test_when_data_is_put_on_the_disk(tmp_path: Path, disk: Disk) -> None:
    """Given events of each kind, when they are written, then exactly the promised ones are synced at once."""
    writer = TelemetryWriter(tmp_path / "run.jsonl", allow_text=True)
    for synced, call in [
        (True, lambda: writer.run_start({})),
        (False, lambda: writer.train_step(1)),
        (False, lambda: writer.alert(severity="warning", code="C", message="m")),
        (True, lambda: writer.alert(severity="error", code="C", message="m")),
        (True, lambda: writer.alert(severity="critical", code="C", message="m")),
        (True, lambda: writer.metrics(1, kind="guard", metrics={"action": "rollback"})),
        (False, lambda: writer.metrics(1, kind="guard", metrics={"action": "snapshot"})),
        (False, lambda: writer.eval(1, split="val", metrics={})),
        (False, lambda: writer.train_step(2, text="x" * 600_000)),
        (True, lambda: writer.train_step(3, text="x" * 600_000)),
        (True, writer.run_end),
    ]:
        before = disk.syncs
        call()
        assert disk.syncs - before == synced
    writer.train_step(4)
    disk.now += 5.0
    before = disk.syncs
    writer.train_step(5)
    assert disk.syncs == before + 1
    writer.close()


def test_a_failing_sync_is_counted_and_training_goes_on(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given ``fdatasync`` that fails, when the run ends, then the faults are in run_end and all events in the file."""

    def failing(_: int) -> None:
        raise OSError(errno.EIO, "bad")

    monkeypatch.setattr(segments, "_sync", failing)
    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        writer.run_start({})
        writer.train_step(1)
    assert oracle.read_strict(writer.path)[-1]["telemetry_faults"] == 1
    assert writer.faults >= 2
