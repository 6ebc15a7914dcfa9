"""The guard on two ranks (gloo, CPU): a fault on one of them, and one decision on both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.emit.hf import faulty, tiny
from tests.emit.hf.guard_rank_script import GUARD_FAULTS, SCENARIOS, STEPS

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.xdist_group("guard-ranks")  # one launch of two processes for all of them
EXPECTED = {
    "nan-batch": [(5, "skip")],
    "nan-gradient": [(5, "skip")],
    "nan-weights": [(5, "rollback")],
    "explosion": [(5, "skip")],
    "stays-nan": [(3, "skip"), (4, "skip"), (5, "abort")],
    "saved": [(4, "rollback")],
    "last-update": [(STEPS, "rollback")],
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks left behind."""
    folder = tmp_path_factory.mktemp("ranks")
    path = os.pathsep.join(str(ROOT / part) for part in (".", "schema"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
            *(str(Path(__file__).with_name("guard_rank_script.py")), str(folder)),
        ],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def _state(out: Path, name: str, rank: int) -> dict[str, Any]:
    return torch.load(out / f"{name}.{rank}.pt")


def _acts(out: Path, segment: str) -> list[dict[str, Any]]:
    kept = {"skip", "rollback", "abort"}
    metrics = [(e["step"], e["metrics"]) for e in tiny.of(tiny.events(out, segment), "metrics", kind="guard")]
    return [{"step": step, **values} for step, values in metrics if values["action"] in kept]


def test_every_scenario_has_its_expectation() -> None:
    """Given the scenarios of the script, when they are compared with those asserted here, then none is left out."""
    assert EXPECTED.keys() == SCENARIOS.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_both_ranks_decide_as_one(out: Path, name: str) -> None:
    """Given a fault on rank 1 alone, when the guard decides, then both ranks do the same at the same step."""
    zero, one = _acts(out / name, "run.jsonl"), _acts(out / name, "run.rank1.jsonl")
    assert [(act["step"], act["action"]) for act in zero] == EXPECTED[name]
    same = ("step", "action", "trigger", "restored_step", "n_rollbacks", "n_skips", "bad_in_a_row")
    assert [[act.get(key) for key in same] for act in zero] == [[act.get(key) for key in same] for act in one]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("name", EXPECTED)
def test_both_ranks_are_what_two_ranks_without_the_batches_are(out: Path, name: str, rank: int) -> None:
    """Given a fault on rank 1, when training ends, then each rank is bit for bit as if the batches had not been."""
    state = _state(out, name, rank)
    assert all(bool(value.isfinite().all()) for key, value in state.items() if key.startswith("weight"))
    assert faulty.differences(state, _state(out, f"{name}-without", rank)) == []
    other = _state(out, name, 1 - rank)
    assert faulty.differences(state, other) == []


def test_a_checkpoint_of_two_ranks_is_finite_too(out: Path) -> None:
    """Given weights of rank 1 that its update broke, when rank 0 saves, then both were restored before."""
    saved = load_file(out / "saved" / "checkpoint-4" / "model.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in saved.values())


@pytest.mark.parametrize("method", GUARD_FAULTS)
def test_a_fault_of_one_guard_turns_both_off(out: Path, method: str) -> None:
    """Given an exception in the guard of rank 1, when training goes on, then both are off, and no bit differs."""
    for rank, segment in enumerate(("run.jsonl", "run.rank1.jsonl")):
        records = tiny.events(out / method, segment)
        assert [a["step"] for a in tiny.of(records, "alert", code="GUARD_FAULT")] == [3]
        assert records[-1]["status"] == "ok"
        assert records[-1]["global_step"] == STEPS
        assert records[-1].get("telemetry_faults", 0) == rank
        assert faulty.differences(_state(out, method, rank), _state(out, "healthy-without", rank)) == []
