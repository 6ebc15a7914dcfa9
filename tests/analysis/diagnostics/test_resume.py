"""Resume: what continues, what does not, and that a proper resume is never accused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.diagnostics import DIAGNOSTICS, diagnose
from gradience_analysis.model import Finding
from gradience_analysis.telemetry.assemble import load_run
from gradience_schema import Severity
from tests.analysis.diagnostics.steps import POLICY, declared, diagnosis, ended, findings, logs, resumed

ROOT = Path(__file__).parents[3]
PEAK = 1e-3


def linear(step: int) -> float:
    """The declared schedule: 10 steps of warm-up, down to 0 at step 200."""
    return PEAK * step / 10 if step < 10 else PEAK * (200 - step) / 190


def start(**training: Any) -> dict[str, Any]:
    """A run that declares it."""
    return declared(lr=PEAK, **{"lr_scheduler": "linear", "warmup_steps": 10, "max_steps": 200, **training})


def loss(step: int) -> float:
    """A loss that falls, with noise that is the same for a step each time."""
    return 2.0 * 0.985**step + 0.5 + 0.05 * ((step * 7919) % 13) / 13


def before(until: int, every: int = 2, **fields: Any) -> list[dict[str, Any]]:
    """The first segment: a run that was cut off after some step."""
    return [start(), *logs(range(every, until + 1, every), **{"lr": linear, "loss": loss, **fields})]


def after(checkpoint: int | None, first: int, every: int = 2, **fields: Any) -> list[Mapping[str, Any]]:
    """The second segment."""
    rows = logs(range(first, 201, every), **{"lr": linear, "loss": loss, **fields})
    return ended([resumed(start(), checkpoint, **fields.pop("meta", {})), *rows])


def finding(folder: Path, *segments: Sequence[Mapping[str, Any]]) -> Finding | None:
    """The finding on the resume, if any."""
    return findings(folder, *segments).get("resume_discontinuity")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(before(60), after(60, 62), id="stopped at the checkpoint"),
        pytest.param(before(67), after(60, 62), id="went on beyond the checkpoint"),
        pytest.param(before(60, 10), after(65, 70, 10), id="a checkpoint between two logs"),
        pytest.param(before(60, 10), after(60, 70, 5), id="another interval"),
        pytest.param(before(66), after(None, 62), id="no resume step, steps trained again"),
        pytest.param(before(66), after(None, 68), id="no resume step, steps go on"),
    ],
)
def test_proper_resume_is_not_accused(tmp_path: Path, first: Any, second: Any) -> None:
    """Given a resume that continues step, rate and loss, when diagnosed, then it is counted and nothing is said."""
    said = diagnosis(tmp_path, first, second)
    assert said.measurement("resumes").value == 1
    assert "resume_discontinuity" not in {one.code for one in said.findings}


def test_run_in_one_piece_has_no_resume(tmp_path: Path) -> None:
    """Given one segment, when measured, then there are 0 resumes, which is a value."""
    assert diagnosis(tmp_path, ended(before(60))).measurement("resumes").value == 0


def test_schedule_that_begins_anew_is_said_once(tmp_path: Path) -> None:
    """Given rates counted from the resume, when diagnosed, then T09 says so with its place, and T07 is not said."""
    found = findings(tmp_path, before(60), after(60, 62, lr=lambda step: linear(step - 60)))
    one = found["resume_discontinuity"]
    assert (one.rule, one.severity, one.places[0].step) == ("T09", Severity.WARNING, 62)
    assert one.places[0].path.endswith("run.1.jsonl")
    assert "schedule anew" in one.message
    assert "lr_off_schedule" not in found


def test_rates_that_repeat_are_seen_without_a_declaration(tmp_path: Path) -> None:
    """Given no declared schedule, when the rates after a resume repeat those of the start, then T09 says so."""
    bare = [declared(), *before(60)[1:]]
    again = [resumed(declared(), 60), *after(60, 62, lr=lambda step: linear(step - 60))[1:]]
    one = finding(tmp_path, bare, again)
    assert one is not None
    assert "schedule anew" in one.message


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("factor", "expected"), [(1.0, ()), (1.001, ("cpu",)), (1.02, ("cpu", "cuda"))])
def test_replayed_step_shows_what_was_not_restored(
    tmp_path: Path, device: str, factor: float, expected: tuple[str, ...]
) -> None:
    """Given a step trained twice, when its losses differ, then less is allowed on a CPU than on an accelerator."""
    rows = after(60, 62, loss=lambda step: loss(step) * factor)
    rows[0] = {**rows[0], "meta": {**rows[0]["meta"], "device": device}}
    one = finding(tmp_path, before(66), rows)
    assert (one is not None) is (device in expected)
    if one is not None:
        assert "step 62, trained twice" in one.message


def test_logs_over_other_steps_are_not_compared(tmp_path: Path) -> None:
    """Given a checkpoint between two logs, when the means cover other steps, then they are not compared."""
    rows = after(65, 70, 10, loss=lambda step: loss(step) * (1.05 if step == 70 else 1.0))
    assert finding(tmp_path, before(80, 10), rows) is None


def test_other_batches_are_not_compared(tmp_path: Path) -> None:
    """Given a resume with another batch size, when losses of a step differ, then that is declared."""
    rows = after(60, 62, loss=lambda step: loss(step) * 1.05)
    rows[0] = resumed(start(batch_size=8), 60)
    assert finding(tmp_path, before(66), rows) is None


@pytest.mark.parametrize(("factor", "expected"), [(1.8, False), (2.2, True)])
def test_loss_that_jumps_at_a_resume(tmp_path: Path, factor: float, expected: bool) -> None:
    """Given a loss that is higher after a resume, when judged, then a factor above 2 is a finding."""
    one = finding(tmp_path, before(60, loss=1.0), after(60, 62, loss=factor))
    assert (one is not None) is expected


def test_noise_at_a_resume_is_not_a_jump(tmp_path: Path) -> None:
    """Given losses that vary by factors all along, when a resume follows a low stretch, then it is noise."""
    losses = {52: 5.0, 54: 1.0, 56: 1.0, 58: 1.0, 60: 1.0}
    rows = after(60, 62, loss=lambda step: 3.0 if step < 70 else 1.0)
    assert finding(tmp_path, before(60, loss=lambda step: losses.get(step, 2.0)), rows) is None


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param(before(60), after(60, 63), False, id="one step late at an interval of two"),
        pytest.param(before(60), after(60, 80), True, id="logs begin late"),
        pytest.param(before(60), after(90, 92), True, id="checkpoint beyond the last log"),
        pytest.param(before(60), after(40, 38), True, id="logs begin before the checkpoint"),
    ],
)
def test_steps_that_no_record_accounts_for(tmp_path: Path, first: Any, second: Any, expected: bool) -> None:
    """Given steps around a resume, when some are in no file, then the message names those on both sides."""
    one = finding(tmp_path, first, second)
    assert (one is not None and "last step before it" in one.message) is expected


@pytest.mark.parametrize(
    ("again", "expected"),
    [
        pytest.param(loss, False, id="the loss starts over too"),
        pytest.param(lambda step: loss(step + 120), True, id="the loss goes on"),
    ],
)
def test_steps_that_count_from_one_again(tmp_path: Path, again: Any, expected: bool) -> None:
    """Given a segment that counts from the first step, when its loss goes on, then the step number was lost."""
    one = finding(tmp_path, before(120), after(None, 2, loss=again))
    assert (one is not None) is expected


def test_trainer_that_says_so_is_believed(tmp_path: Path) -> None:
    """Given a segment that records that its optimizer was not restored, when diagnosed, then T09 says it."""
    rows = after(60, 62)
    rows[0] = {**rows[0], "meta": {**rows[0]["meta"], "optimizer_restored": False}}
    one = finding(tmp_path, before(60), rows)
    assert one is not None
    assert "optimizer state was not restored" in one.message


def test_recorded_resume_is_proper() -> None:
    """Given the recorded run that was resumed from its checkpoint, when diagnosed, then nothing is said of it."""
    said = diagnose(load_run(ROOT / "fixtures" / "runs" / "resumed"), DIAGNOSTICS, POLICY)
    resumes = said.measurement("resumes")
    assert resumes.details["resumes"][0]["replayed_difference"] == 0.0
    assert "resume_discontinuity" not in {one.code for one in said.findings}
