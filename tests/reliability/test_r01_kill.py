"""R1: kill -9 at random instants loses no acknowledged event and damages nothing before the last line."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from gradience_analysis import load_run
from gradience_emit import TelemetryWriter
from tests.emit import oracle
from tests.reliability.lengths import lengths

SIZES = (200, 20_000, 1_000_000)
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def write_for_ever(path: Path, size: int, acknowledgements: int) -> None:
    """In the child: log events of one size, and acknowledge each one after the call came back."""
    writer = TelemetryWriter(path, allow_text=True)
    writer.run_start({"model_name": "m"})
    os.write(acknowledgements, b".")
    text = "x" * max(0, size - 150)
    step = 0
    while True:
        writer.train_step(step, loss=0.5, text=text)
        os.write(acknowledgements, b".")
        step += 1


def killed_run(path: Path, size: int, lifetime: float) -> int:
    """Kill a writing child ``lifetime`` seconds after its first event; the number of acknowledged events."""
    acknowledged = path.with_suffix(".ack")
    descriptor = os.open(acknowledged, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    child = os.fork()
    if child == 0:
        try:
            write_for_ever(path, size, descriptor)
        finally:
            os._exit(1)
    os.close(descriptor)
    while not acknowledged.stat().st_size:
        time.sleep(0.0005)
    time.sleep(lifetime)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return acknowledged.stat().st_size


@lengths("kills", 200, 1000)
def test_kill_9_loses_no_acknowledged_event(tmp_path: Path, kills: int) -> None:
    """Given writers of small, middle and huge events, when each is killed, then every acknowledged line is whole."""
    chance = random.Random(1)
    torn_tails = events = 0
    for kill in range(kills):
        path = tmp_path / "run.jsonl"
        acknowledged = killed_run(path, SIZES[kill % 3], chance.uniform(0, 0.02))
        *lines, tail = path.read_bytes().split(b"\n")
        records = [oracle.strict_loads(line) for line in lines]
        assert [record["seq"] for record in records] == list(range(len(records)))
        assert len(records) >= acknowledged, f"kill {kill}: {acknowledged} acknowledged, {len(records)} in the file"
        torn_tails += bool(tail)
        events += len(records)
        run = load_run(path)
        assert len(run.steps) == len(records) - 1
        for file in tmp_path.iterdir():
            file.unlink()
    print(f"R1: {kills} kills, {events} events, 0 acknowledged lost, 0 damaged lines, {torn_tails} torn tails")


def test_a_killed_run_is_continued_without_touching_what_is_there(tmp_path: Path) -> None:
    """Given a killed run, when it is continued in the same file, then old bytes stay and new records parse."""
    path = tmp_path / "run.jsonl"
    for _ in range(5):
        before = path.read_bytes() if path.exists() else b""
        killed_run(tmp_path / "other.jsonl", 1_000_000, 0.002)
        if not before:
            (tmp_path / "other.jsonl").replace(path)
        with TelemetryWriter(path, if_exists="append") as writer:
            writer.metrics(None, kind="memory", metrics={})
        assert writer.path == path
        assert path.read_bytes().startswith(before)
        last = path.read_bytes().split(b"\n")[-2]
        assert oracle.strict_loads(last)["run_id"] == writer.run_id
