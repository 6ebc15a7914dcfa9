"""The committed runs: what they were made to show is what is read from them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis import load_run, validate
from gradience_schema import RunStatus

RUNS = Path(__file__).resolve().parents[2] / "fixtures" / "runs"
STATUS = {
    "healthy": RunStatus.OK,
    "stopped_early": RunStatus.ABORTED,
    "raised": RunStatus.ERROR,
    "resumed": RunStatus.OK,
    "nan_batch": RunStatus.OK,
}


def records(name: str, file: str = "run.jsonl") -> list[dict[str, Any]]:
    """Parse a fixture with nothing but the standard library."""
    return [json.loads(line) for line in (RUNS / name / file).read_text(encoding="utf-8").splitlines()]


def test_every_fixture_is_expected() -> None:
    """Given the folder of fixtures, when it is listed, then each is in the table above, and together they are small."""
    assert {path.name for path in RUNS.iterdir() if path.is_dir()} == set(STATUS)
    assert sum(path.stat().st_size for path in RUNS.rglob("*.jsonl")) < 100_000


@pytest.mark.parametrize("name", STATUS)
def test_status_and_losses_are_read(name: str) -> None:
    """Given a recorded run, when it is loaded, then its status is known, every loss is there, and nothing is amiss."""
    run = load_run(RUNS / name)
    assert run.status == STATUS[name]
    assert not run.issues
    losses = [loss for _, loss in run.series("loss")]
    assert len(losses) >= 5
    assert all(math.isfinite(loss) for loss in losses)
    assert {"train", "val"} <= set(run.evaluations)


@pytest.mark.parametrize("path", sorted(RUNS.rglob("*.jsonl")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_each_file_is_valid(path: Path) -> None:
    """Given a recorded file, when it is validated strictly, then there is no issue."""
    checked = validate(path, strict=True)
    assert checked.ok
    assert not checked.issues


def test_the_frame_holds_what_the_file_holds() -> None:
    """Given the healthy run, when its steps are put in a frame, then they are those of the file, in order."""
    written = [(r["step"], r["loss"]) for r in records("healthy") if r["event"] == "train_step"]
    steps = load_run(RUNS / "healthy").steps
    assert list(zip(steps["step"], steps["loss"], strict=True)) == written


def test_the_exception_is_named() -> None:
    """Given the run that failed, when its end is read, then the exception's type and text are there."""
    run = load_run(RUNS / "raised")
    assert run.reason == "RuntimeError: row 16 of the shard cannot be decoded"


def test_the_resumed_run_is_one_run_of_two_segments() -> None:
    """Given the resumed run, when its segments are read, then the second goes on from where the first can."""
    first, second = records("resumed"), records("resumed", "run.1.jsonl")
    assert {r["run_id"] for r in first} == {r["run_id"] for r in second}
    assert first[-1]["status"] == "error"
    resume_step = second[0]["meta"]["resume_step"]
    run = load_run(RUNS / "resumed")
    assert len(run.segments) == 2
    steps = [step for step, _ in run.series("loss")]
    assert steps == sorted(set(steps))
    assert steps[-1] == 40
    superseded = [r["step"] for r in first if r["event"] == "train_step" and r["step"] > resume_step]
    assert superseded  # the segments do overlap


def test_the_hidden_nan_is_on_record() -> None:
    """Given the run with a NaN batch, when its record is read, then the count and the alert tell what the log hides."""
    run = load_run(RUNS / "nan_batch")
    assert run.config is not None
    assert run.config.training.logging_nan_inf_filter is True
    (alert,) = run.alerts
    assert alert.payload["code"] == "NONFINITE_LOSS"
    counts = [r["nonfinite_loss_steps"] for r in records("nan_batch") if r["event"] == "train_step"]
    assert counts[0] == 0
    assert counts[-1] == 1
