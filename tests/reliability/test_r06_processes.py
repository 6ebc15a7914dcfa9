"""R6: many processes, one path: no line is interleaved, and a second writer gets a file of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.emit import oracle
from tests.reliability.lengths import lengths

PROCESSES = 8
WORKER = """
import random, sys
from gradience_emit import TelemetryWriter
path, process, lines = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(process)
with TelemetryWriter(path, "r", allow_text=True) as writer:
    writer.run_start({"model_name": "m"})
    for step in range(lines):
        size = chance.choices([50, 5_000, 100_000, 1_000_000], [890, 100, 9, 1])[0]
        writer.train_step(step, process=process, text=chr(97 + process) * size)
"""
RANK = """
import os, sys
import torch.distributed as dist
from gradience_emit import TelemetryWriter
dist.init_process_group("gloo")
with TelemetryWriter(sys.argv[1], "r") as writer:
    dist.barrier()
    writer.run_start({"model_name": "m"}, {"rank": dist.get_rank()})
    for step in range(200):
        writer.train_step(step, rank=dist.get_rank())
    dist.barrier()
dist.destroy_process_group()
"""


@lengths("lines", 500, 10_000)
def test_eight_processes(tmp_path: Path, child_environment: dict[str, str], lines: int) -> None:
    """Given eight processes at one path, when each logs up to 1 MB a line, then eight files hold every line whole."""
    command = [sys.executable, "-c", WORKER, str(tmp_path / "run.jsonl")]
    workers = [
        subprocess.Popen([*command, str(process), str(lines)], env=child_environment) for process in range(PROCESSES)
    ]
    assert [worker.wait(3600) for worker in workers] == [0] * PROCESSES
    seen, total = set(), 0
    for path in tmp_path.iterdir():
        process, longest = None, 0
        with path.open("rb") as file:
            for number, line in enumerate(file):
                record = oracle.strict_loads(line)
                assert record["seq"] == number
                if record["event"] != "train_step":
                    continue
                process = record["process"] if process is None else process
                assert record["process"] == process, "two processes in one file"
                assert set(record["text"]) == {chr(97 + process)}
                longest, total = max(longest, len(line)), total + 1
        assert number == lines + 1
        assert longest > 90_000
        seen.add(process)
    assert seen == set(range(PROCESSES))
    print(f"R6: {total} of {PROCESSES * lines} lines intact in {len(seen)} files")


def test_two_ranks_under_torchrun(tmp_path: Path, child_environment: dict[str, str]) -> None:
    """Given two ranks that open the same path at once, when both train, then each has a whole file."""
    pytest.importorskip("torch")
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*launcher, str(script), str(tmp_path / "out" / "run.jsonl")],
        env=child_environment, check=True, timeout=200, capture_output=True,
    )  # fmt: skip
    ranks = []
    for path in (tmp_path / "out").iterdir():
        records = oracle.read_strict(path)
        assert [record["event"] for record in records] == ["run_start", *["train_step"] * 200, "run_end"]
        ranks.append(records[0]["meta"]["rank"])
        assert {record["rank"] for record in records[1:-1]} == {ranks[-1]}
    assert sorted(ranks) == [0, 1]
