"""`gradience monitor --follow`: a run that is written while it is watched, into a pipe and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.analysis.records import end, numbered, record, start, train, write
from tests.cli.command import environment, gradience

WAIT_S = 20.0
pytestmark = pytest.mark.timeout(60)


def follow(path: Path) -> subprocess.Popen[str]:
    """The command as a process with its output in a pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "gradience_cli", "monitor", "--follow", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(PYTHONUNBUFFERED="1"),
    )


def line_of(process: subprocess.Popen[str], word: str) -> tuple[str, float]:
    """The next line with a word in it, and when it came."""
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return line, time.time()
    raise AssertionError(f"no line with {word!r}")


def append(path: Path, rows: list[dict[str, object]]) -> None:
    """Records at the end of a file."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_lines_come_while_the_run_is_written_and_the_report_at_its_end(tmp_path: Path) -> None:
    """Given a run that grows, is resumed and ends, when followed, then each step shows, and then the report."""
    path = write(tmp_path / "run.jsonl", numbered([start(), *train([1])]))
    process = follow(path)
    try:
        line_of(process, "step 1 train")
        append(path, train([2], ts=2.0))
        line_of(process, "step 2 train")
        write(tmp_path / "run.1.jsonl", numbered([start(ts=9.0, segment=1, resume_step=2), *train([3], ts=10.0)]))
        line_of(process, "step 3 train")
        append(tmp_path / "run.1.jsonl", [end(ts=12.0)])
        line_of(process, "Ran to its end")
        assert process.stdout is not None
        rest = process.stdout.read()
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
        process.communicate()
    assert "step 3" in rest


def test_ctrl_c_gives_the_report_so_far(tmp_path: Path) -> None:
    """Given a run without an end, when the watch is interrupted, then its report is printed and nothing is lost."""
    path = write(tmp_path / "run.jsonl", numbered([start(), *train([1, 2])]))
    process = follow(path)
    try:
        line_of(process, "step 2 train")
        process.send_signal(signal.SIGINT)
        line_of(process, "Training")
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
        _, errors = process.communicate()
    assert "Traceback" not in errors


def test_the_terminal_is_redrawn_and_left_with_the_report(tmp_path: Path) -> None:
    """Given a terminal, when a run is followed to its end, then the last thing on it is the report, whole."""
    path = write(tmp_path / "run.jsonl", numbered([start(), *train(range(1, 9))]))
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gradience_cli", "monitor", "--follow", str(path)],
        stdout=slave,
        stderr=slave,
        stdin=subprocess.DEVNULL,
        env=environment(TERM="xterm-256color", COLUMNS="100", LINES="30"),
    )
    os.close(slave)
    shown = b""
    try:
        while b"Ctrl-C ends" not in shown:
            shown += os.read(master, 65536)
        append(path, [record("run_end", ts=20.0, status="ok")])
        while True:
            try:
                shown += os.read(master, 65536)
            except OSError:  # the terminal is closed with the process
                break
        process.wait(WAIT_S)
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert process.returncode == 0
    assert b"Ran to its end" in shown.rpartition(b"Ctrl-C ends")[2]


@pytest.mark.parametrize("options", ["--json", "--quiet", "--format md", "--output x", "--strict-schema"])
def test_follow_refuses_what_it_cannot_do(tmp_path: Path, options: str) -> None:
    """Given options that make no sense with a live view, when followed, then exit 2 and one sentence."""
    path = write(tmp_path / "run.jsonl", [start(), end()])
    result = gradience("monitor", "--follow", path, *options.split())
    assert result.returncode == 2
    assert "--follow" in result.stderr


def test_follow_refuses_a_path_that_is_not_there(tmp_path: Path) -> None:
    """Given no such file, when followed, then exit 2 at once."""
    assert gradience("monitor", "--follow", tmp_path / "absent.jsonl").returncode == 2


def test_a_run_that_is_written_is_no_alarm(tmp_path: Path) -> None:
    """Given a run without an end, while lines of it come, when drawn, then its picture says that it is running."""
    from gradience_analysis.policy import load_policy
    from gradience_analysis.telemetry.follow import Follower
    from gradience_cli.following import _Screen

    path = write(tmp_path / "run.jsonl", numbered([start(), *train(range(1, 9))]))
    follower, screen = Follower(path), _Screen(load_policy(), verbose=False)
    screen.show(follower, follower.poll())
    assert screen._report is not None
    assert screen._report.verdict.text.startswith("Running for")
