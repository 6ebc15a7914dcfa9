"""Whether the process that wrote a run lives: what this machine can tell, and what it cannot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.telemetry import liveness
from gradience_analysis.telemetry.assemble import load_run
from gradience_emit import origin
from tests.analysis.diagnostics.machine import T0, began, ended, steps
from tests.analysis.records import write

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def own(**other: Any) -> dict[str, Any]:
    """The meta that this process would write, with other values."""
    return {**origin.machine(), **origin.process(), **other}


@needs_proc
@pytest.mark.parametrize(
    ("other", "alive"),
    [
        ({}, True),
        ({"host": os.uname().nodename}, True),
        ({"pid_start": 1}, False),
        ({"boot_id": "sha256:000000000000"}, False),
        ({"host": "sha256:000000000000"}, None),
        ({"host": None}, None),
        ({"pid_namespace": 1}, None),
        ({"pid": None}, None),
        ({"pid": True}, None),
        ({"pid": -1}, None),
        ({"pid": 0}, None),
        ({"pid": 10**400}, None),
        ({"pid": "1; rm"}, None),
        ({"pid_start": None}, None),
        ({"boot_id": None}, None),
    ],
)
def test_what_meta_says_against_this_process(other: dict[str, Any], alive: bool | None) -> None:
    """Given this process's own meta, when one value of it is another, then it lives, is gone, or cannot be told."""
    assert liveness.process_alive(own(**other)) is alive


@needs_proc
def test_a_number_that_no_process_has_is_gone() -> None:
    """Given the number of a child that ended, when asked, then it is gone, whatever else is written."""
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(child, 0)
    assert liveness.process_alive(own(pid=child)) is False


@pytest.mark.parametrize("name", ["localhost", ""])
def test_a_name_that_many_machines_have_tells_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Given a machine called localhost, when asked about a run of a localhost, then it cannot be told."""
    real = os.uname()
    named = os.uname_result((real.sysname, name, real.release, real.version, real.machine))
    monkeypatch.setattr(os, "uname", lambda: named)
    assert liveness.process_alive(own(host=name, boot_id="sha256:000000000000")) is None


@pytest.mark.parametrize(
    ("answer", "alive"), [(ProcessLookupError, False), (PermissionError, None), (OSError, None), (None, None)]
)
def test_without_proc_a_signal_asks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: type[OSError] | None, alive: bool | None
) -> None:
    """Given a system without /proc, when a process is asked for, then only that there is none can be told."""

    def kill(pid: int, signal: int) -> None:
        assert (pid, signal) == (4711, 0)
        if answer is not None:
            raise answer

    monkeypatch.setattr(liveness, "_PROC", tmp_path)
    monkeypatch.setattr(os, "kill", kill)
    assert liveness.process_alive({"host": os.uname().nodename, "pid": 4711}) is alive


def test_where_a_signal_is_no_question_none_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Given a system that is not POSIX, when a process is asked for, then nothing is sent to it."""
    monkeypatch.setattr(liveness, "_PROC", tmp_path)
    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a signal was sent"))
    alive = liveness._answers(4711)  # pyright: ignore[reportPrivateUsage] - os.name breaks pathlib
    assert alive is None


@needs_proc
def test_the_last_segment_decides(tmp_path: Path) -> None:
    """Given a first segment of a process that is gone and a second of one that lives, when loaded, then it lives."""
    write(tmp_path / "run.jsonl", [began(**own(boot_id="sha256:000000000000")), *steps(5)])
    assert load_run(tmp_path).writer_alive is False
    write(tmp_path / "run.1.jsonl", [began(**own(segment=1)), *steps(8)])
    assert load_run(tmp_path).writer_alive is True


@needs_proc
def test_a_part_without_a_start_belongs_to_the_process_before(tmp_path: Path) -> None:
    """Given a file in which steps go back without a run_start, when loaded, then the process of its start is asked."""
    write(tmp_path / "run.jsonl", [began(**own(boot_id="sha256:000000000000")), *steps(5), *steps(5)])
    assert load_run(tmp_path).writer_alive is False


@needs_proc
def test_of_a_segment_that_lost_its_start_nothing_is_known(tmp_path: Path) -> None:
    """Given a second segment without a run_start, when loaded, then the first one's process says nothing of it."""
    write(tmp_path / "run.jsonl", [began(**own(boot_id="sha256:000000000000")), *steps(5)])
    write(tmp_path / "run.1.jsonl", steps(8))
    assert load_run(tmp_path).writer_alive is None


def test_a_run_that_ended_is_not_asked_for(tmp_path: Path) -> None:
    """Given a run_end, when loaded, then there is no process to ask for."""
    assert load_run(write(tmp_path / "run.jsonl", [began(**own()), *steps(5), ended()])).writer_alive is None


def test_the_time_of_reading(tmp_path: Path) -> None:
    """Given a run of a real clock, when loaded with a time and without, then that time and the clock's are kept."""
    path = write(tmp_path / "run.jsonl", [began(), *steps(5)])
    assert load_run(path, now=T0 + 9).read_at == T0 + 9
    read = load_run(path).read_at
    assert read is not None
    assert read > T0
