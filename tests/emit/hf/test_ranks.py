"""Distributed training on two ranks (gloo, CPU)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.emit.hf import tiny

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks left behind."""
    folder = tmp_path_factory.mktemp("ranks")
    path = os.pathsep.join(str(ROOT / part) for part in (".", "schema"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
            *(str(Path(__file__).with_name("rank_script.py")), str(folder)),
        ],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def test_only_rank_zero_writes(out: Path) -> None:
    """Given two ranks, when both have the callback, then there is one file, whole, with the train split of both."""
    assert [path.name for path in (out / "one").glob("*.jsonl")] == ["run.jsonl"]
    records = tiny.events(out / "one")
    assert [r["seq"] for r in records] == list(range(len(records)))
    assert records[0]["config"]["training"]["world_size"] == 2
    assert len(tiny.of(records, "train_step")) == 4
    splits = [(e["step"], e["split"], e["metrics"]["n"]) for e in tiny.of(records, "eval")]
    assert splits == [(2, "val", 8), (2, "train", 6), (4, "val", 8), (4, "train", 6)]
    assert records[-1]["status"] == "ok"


def test_every_rank_writes_when_asked(out: Path) -> None:
    """Given rank telemetry, when both ranks train, then each has a whole file, and the run id is one."""
    assert sorted(path.name for path in (out / "every").glob("*.jsonl")) == ["run.jsonl", "run.rank1.jsonl"]
    zero, one = tiny.events(out / "every"), tiny.events(out / "every", "run.rank1.jsonl")
    assert {r["run_id"] for r in (*zero, *one)} == {zero[0]["run_id"]}
    assert (zero[0]["meta"].get("rank"), one[0]["meta"]["rank"]) == (None, 1)
    for records in (zero, one):
        assert [s["step"] for s in tiny.of(records, "train_step")] == [1, 2, 3, 4]
        assert records[-1]["status"] == "ok"


def test_the_weights_are_the_same_bit_for_bit_on_both_ranks(out: Path) -> None:
    """Given the same training with and without the callback, when the weights are compared, then all are equal."""
    reference = torch.load(out / "without.0.pt")
    for name in ("with.0.pt", "with.1.pt", "without.1.pt"):
        assert tiny.same_weights(torch.load(out / name), reference)
