"""Learning rate: the rebuilt schedules against those of transformers, and what counts as off the schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.telemetry.schedules import declared_schedule
from gradience_schema import Severity
from tests.analysis.diagnostics.steps import declared, diagnosis, ended, findings, logs, resumed
from tests.analysis.records import record

PEAK = 3e-4
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "constant": ("constant", {}),
    "constant_with_warmup": ("constant_with_warmup", {}),
    "linear": ("linear", {}),
    "cosine": ("cosine", {}),
    "two waves": ("cosine", {"num_cycles": 1.5}),
    "polynomial": ("polynomial", {}),
    "quadratic": ("polynomial", {"power": 2.0, "lr_end": 1e-5}),
    "inverse_sqrt": ("inverse_sqrt", {}),
    "inverse_sqrt of a scale": ("inverse_sqrt", {"timescale": 50}),
    "cosine_with_restarts": ("cosine_with_restarts", {"num_cycles": 3}),
    "cosine_with_min_lr": ("cosine_with_min_lr", {"min_lr": 2e-5}),
    "cosine_with_min_lr as a share": ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
}


@pytest.mark.hf
@pytest.mark.parametrize("warmup", [0, 7])
@pytest.mark.parametrize("form", FORMS)
def test_schedules_are_those_of_transformers(form: str, warmup: int) -> None:
    """Given a schedule by name, when rebuilt, then each step has the rate of transformers' own scheduler."""
    import torch
    from transformers import get_scheduler

    name, arguments = FORMS[form]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    theirs = get_scheduler(
        name, optimizer, num_warmup_steps=warmup, num_training_steps=60, scheduler_specific_kwargs=arguments
    )
    ours = declared_schedule(name, PEAK, warmup, 60, arguments)
    assert not isinstance(ours, str)
    for step in range(66):
        assert ours(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9, abs=1e-15), step
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(
    ("name", "warmup", "total", "words"),
    [
        ("linear", None, 60, "warmup_steps"),
        ("linear", math.nan, 60, "warmup_steps"),
        ("linear", 5, None, "max_steps"),
        ("linear", 0.1, None, "max_steps"),
        ("constant_with_warmup", 0.1, None, "max_steps"),
        ("cosine_with_restarts", 5, 60, "lr_scheduler_kwargs"),
        ("cosine_with_min_lr", 5, 60, "lr_scheduler_kwargs"),
        ("reduce_lr_on_plateau", 5, 60, "follows a metric"),
        ("LambdaLR", 5, 60, "not known"),
    ],
)
def test_what_cannot_be_rebuilt_says_why(name: str, warmup: float | None, total: int | None, words: str) -> None:
    """Given a declaration with something missing, when rebuilt, then there is a sentence that names it."""
    found = declared_schedule(name, PEAK, warmup, total)
    assert isinstance(found, str)
    assert words in found


def test_warmup_may_be_a_share_and_names_may_be_enums() -> None:
    """Given a warm-up of a tenth and an enum's name, when rebuilt, then the tenth is rounded up as the trainer does."""
    found = declared_schedule("SchedulerType.LINEAR", PEAK, 0.1, 55)
    assert not isinstance(found, str)
    assert (found(3), found(6)) == (pytest.approx(PEAK * 3 / 6), PEAK)


def linear(step: int, *, total: int = 100, warmup: int = 10) -> float:
    """The linear schedule, written out anew."""
    return PEAK * step / warmup if step < warmup else PEAK * max(0, total - step) / (total - warmup)


def start(**training: Any) -> dict[str, Any]:
    """A run that declares it."""
    return declared(lr=PEAK, **{"lr_scheduler": "linear", "warmup_steps": 10, "max_steps": 100, **training})


@pytest.mark.parametrize("shift", [-1, 0, 1])
@pytest.mark.parametrize("every", [1, 7])
def test_rates_before_and_after_the_scheduler_are_on_it(tmp_path: Path, shift: int, every: int) -> None:
    """Given rates logged a step early or late, when compared, then the deviation is 0."""
    rows = logs(range(every, 101, every), lr=lambda step: linear(max(0, step + shift)))
    said = diagnosis(tmp_path, ended([start(), *rows]))
    assert said.measurement("lr_schedule_deviation").value == pytest.approx(0.0, abs=1e-6)
    assert "lr_off_schedule" not in {finding.code for finding in said.findings}


@pytest.mark.parametrize(("factor", "expected"), [(1.009, False), (1.02, True), (0.98, True), (0.991, False)])
def test_one_per_cent_is_the_limit(tmp_path: Path, factor: float, expected: bool) -> None:
    """Given a constant rate a little off the declared one, when judged, then 1% is allowed and 2% is not."""
    rows = [start(lr_scheduler="constant"), *logs(range(1, 41), lr=PEAK * factor)]
    assert ("lr_off_schedule" in findings(tmp_path, ended(rows))) is expected


OTHERS = {
    "constant": lambda _: PEAK,
    "over after half": lambda step: linear(step, total=50),
    "stepped twice": lambda step: linear(2 * step),
    "no warm-up": lambda step: linear(step, warmup=1),
    "cosine": lambda step: PEAK * (0.5 + 0.5 * math.cos(math.pi * step / 100)),
    "zero in between": lambda step: 0.0 if 40 < step < 60 else linear(step),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_schedule_is_found_with_its_worst_step(tmp_path: Path, other: str) -> None:
    """Given another schedule than the declared one, when judged, then T07 names a step, its rate and the declared."""
    finding = findings(tmp_path, ended([start(), *logs(range(2, 101, 2), lr=OTHERS[other])]))["lr_off_schedule"]
    assert (finding.rule, finding.severity) == ("T07", Severity.WARNING)
    worst = finding.evidence["records"][0]
    assert worst["logged"] == OTHERS[other](worst["step"])
    assert worst["declared"] == pytest.approx(linear(worst["step"] - 1))
    assert {place.step for place in finding.places} <= {record["step"] for record in finding.evidence["records"]}


def test_single_record_off_is_not_a_finding(tmp_path: Path) -> None:
    """Given one slip of the logging, when judged, then nothing is said, and the deviation is measured."""
    rows = logs(range(2, 101, 2), lr=lambda step: 1.0 if step == 50 else linear(step))
    said = diagnosis(tmp_path, ended([start(), *rows]))
    deviation = said.measurement("lr_schedule_deviation").value
    assert isinstance(deviation, float)
    assert deviation > 1000
    assert "lr_off_schedule" not in {finding.code for finding in said.findings}


def test_groups_are_held_against_their_own_peak(tmp_path: Path) -> None:
    """Given two parameter groups with their peaks recorded, when compared, then the first is on its schedule."""
    begin = declared(lr=9.0, groups=[PEAK, PEAK / 10], lr_scheduler="linear", warmup_steps=10, max_steps=100)
    rows = [begin, *logs(range(2, 101, 2), lr=lambda step: [linear(step), linear(step) / 10])]
    assert diagnosis(tmp_path, ended(rows)).measurement("lr_schedule_deviation").value == 0.0


def test_unknown_peaks_are_not_measured(tmp_path: Path) -> None:
    """Given groups with different rates and no peaks, when measured, then the reason names them."""
    item = diagnosis(tmp_path, ended([start(), *logs([2, 4], lr=[1e-4, 1e-5])])).measurement("lr_schedule_deviation")
    assert item.value is None
    assert "group_lrs" in item.reason


def test_steps_settled_after_an_evaluation_are_used(tmp_path: Path) -> None:
    """Given a run_start that did not know its steps yet, when a schedule record follows, then that is compared."""
    told = record("metrics", None, kind="schedule", metrics={"max_steps": 100, "warmup_steps": 10, "epochs": 2.0})
    rows = [start(max_steps=None, warmup_steps=0.1), told, *logs(range(2, 101, 2), lr=linear)]
    assert diagnosis(tmp_path, ended(rows)).measurement("lr_schedule_deviation").value == 0.0


@pytest.mark.parametrize(("counted", "expected"), [(3, False), (0, True)])
def test_float16_may_lag_by_the_steps_it_skipped(tmp_path: Path, counted: int, expected: bool) -> None:
    """Given a schedule three steps late in float16, when as many overflows were counted, then it is declared."""
    rows = logs(range(1, 101), lr=lambda step: linear(max(0, step - 4)), nonfinite_grad_steps=counted)
    assert ("lr_off_schedule" in findings(tmp_path, ended([start(dtype="float16"), *rows]))) is expected


def test_float16_without_counter_is_not_measured(tmp_path: Path) -> None:
    """Given float16 and no counter of overflows, when measured, then the reason names the counter."""
    said = diagnosis(tmp_path, ended([start(dtype="float16"), *logs(range(1, 9), lr=linear)]))
    assert "nonfinite_grad_steps" in said.measurement("lr_schedule_deviation").reason


def test_what_follows_a_guard_is_left_out(tmp_path: Path) -> None:
    """Given a guard that halves the rate at step 40, when compared, then only what came before it is."""
    act = record("metrics", 40, ts=40.0, kind="guard", metrics={"action": "rollback", "lr_multiplier": 0.5})
    rows = [start(), *logs(range(1, 41), lr=linear), act]
    rows += logs(range(41, 101), lr=lambda step: linear(step) / 2)
    assert "lr_off_schedule" not in findings(tmp_path, ended(rows))


def test_each_segment_is_held_against_its_own_declaration(tmp_path: Path) -> None:
    """Given a resume that declares more steps, when the rates follow each declaration, then nothing is said."""
    more = resumed(start(max_steps=200), 50)
    late = logs(range(52, 101, 2), lr=lambda step: linear(step, total=200), loss=1.0)
    assert "lr_off_schedule" not in findings(
        tmp_path, [start(), *logs(range(2, 51, 2), lr=linear, loss=1.0)], ended([more, *late])
    )


def test_resume_that_rescales_the_schedule_is_found(tmp_path: Path) -> None:
    """Given a resume whose rates follow more steps than it declares, when judged, then T07 is said, not T09."""
    late = logs(range(52, 101, 2), lr=lambda step: linear(step, total=200), loss=1.0)
    found = findings(
        tmp_path, [start(), *logs(range(2, 51, 2), lr=linear, loss=1.0)], ended([resumed(start(), 50), *late])
    )
    assert found.keys() & {"lr_off_schedule", "resume_discontinuity"} == {"lr_off_schedule"}


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([0.0, 0.0, 0.0, 0.0, 1e-4, 1e-4], False),
        ([1e-4] * 10 + [0.0], False),
        ([1e-4] * 10 + [0.0] * 3 + [1e-4], True),
        ([1e-4] * 10 + [0.0] * 3, True),
        ([0.0] * 10, True),
    ],
)
def test_zero_without_a_schedule(tmp_path: Path, rates: Sequence[float], expected: bool) -> None:
    """Given no declared schedule, when the rate is 0 after the first logs, then three in a row are a finding."""
    rows = logs(range(1, len(rates) + 1), lr=lambda step: rates[step - 1])
    assert ("lr_off_schedule" in findings(tmp_path, ended([declared(), *rows]))) is expected


def test_odd_declarations_never_raise(tmp_path: Path) -> None:
    """Given numbers of the wrong kind or size, when measured, then there is a reason or a number, and no error."""
    for place, training in enumerate(
        (
            {"max_steps": 10**30},
            {"max_steps": -4},
            {"warmup_steps": -1},
            {"warmup_steps": 1e300},
            {"max_steps": 10},
            {"lr_scheduler": "polynomial", "extras": {"lr_scheduler_kwargs": {"power": 1e300, "lr_end": "x"}}},
            {"lr_scheduler": "inverse_sqrt", "extras": {"lr_scheduler_kwargs": {"timescale": 0}}},
            {"lr_scheduler": "cosine", "extras": {"lr_scheduler_kwargs": [1]}},
        )
    ):
        folder = tmp_path / str(place)
        folder.mkdir()
        item = diagnosis(folder, ended([start(**training), *logs([1, 50, 10**15], lr=1e-4)])).measurement(
            "lr_schedule_deviation"
        )
        assert item.reason or isinstance(item.value, float)
