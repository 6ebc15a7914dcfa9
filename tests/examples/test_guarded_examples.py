"""The examples of a guarded loop run as a user runs them, and come through their bad batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gradience_analysis import load_run
from gradience_schema import RunStatus, load_schema, registry

pytestmark = pytest.mark.hf

ROOT = Path(__file__).resolve().parents[2]


def run_example(name: str, folder: Path, *arguments: str) -> str:
    """Run an example for 20 steps, and return what it printed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), "--out", "out", "--max-steps", "20", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, str]]:
    """Give the output folder of an example and what it printed; it runs the first time it is asked for."""

    @cache
    def output(name: str, *arguments: str) -> tuple[Path, str]:
        folder = tmp_path_factory.mktemp(name)
        return folder / "out", run_example(name, folder, *arguments)

    return output


def records_of(folder: Path) -> list[dict[str, Any]]:
    """The records of a run."""
    return [json.loads(line) for line in (folder / "run.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("name", ["guarded_loop", "guarded_accelerate"])
def test_a_guarded_example_comes_through_its_bad_batch(name: str, run_of: Callable[..., tuple[Path, str]]) -> None:
    """Given a guarded example, when its batch at step 12 is NaN, then that update is dropped and the run is whole."""
    folder, printed = run_of(name)
    validator = jsonschema.Draft202012Validator(load_schema(), registry=registry())
    records = records_of(folder)
    for record in records:
        validator.validate(record)
    assert [r["step"] for r in records if r.get("code") == "GUARD_SKIP"] == [12]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert (summary["total_steps"], summary["guard"]["integrity_status"]) == (20, "recovered")
    assert summary["guard"]["total_skips"] == 1
    run = load_run(folder / "run.jsonl")
    assert run.status == RunStatus.OK
    assert not run.issues
    assert run.config is not None
    assert run.config.lora.r == 8
    losses = run.steps["loss"].dropna().tolist()
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert "recovered" in printed


def test_the_same_loop_without_the_guard_is_lost(run_of: Callable[..., tuple[Path, str]]) -> None:
    """Given the raw loop without its guard, when the same batch comes, then its weights are not finite any more."""
    _, guarded = run_of("guarded_loop")
    folder, printed = run_of("guarded_loop", "--no-guard")
    assert "weights finite: True" in guarded
    assert "weights finite: False" in printed
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["guard"] is None


def test_a_loop_without_a_bad_batch_is_left_alone(run_of: Callable[..., tuple[Path, str]]) -> None:
    """Given the raw loop without a bad batch, when it is guarded, then nothing was seen."""
    folder, printed = run_of("guarded_loop", "--bad-step", "0")
    assert "guard: ok" in printed
    codes = {r["code"] for r in records_of(folder) if r["event"] == "alert"}
    assert codes == {"GUARD_INIT", "GUARD_SNAPSHOT"}
    validations = [r for r in records_of(folder) if r["event"] == "eval"]
    assert [(r["step"], r["split"]) for r in validations] == [(20, "val")]
