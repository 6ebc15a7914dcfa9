"""Steps that become slower, and all that only looks like it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.diagnostics.machine import T0, began, by_code, diagnosed, ended, findings, judged, logged, step
from tests.analysis.records import end, evaluation, record, start, write


def by_log(seconds: Callable[[int], float], last: int = 400, every: int = 10, **more: Any) -> list[Any]:
    """A run whose throughput records say how long a step takes."""
    rows: list[Any] = [began()]
    for at in range(every, last + 1, every):
        rows += [step(at), logged(at, "throughput", step_s=seconds(at), **{k: v(at) for k, v in more.items()})]
    return [*rows, ended()]


def by_stamps(seconds: Callable[[int], float], last: int = 400, every: int = 5, evaluate: int = 0) -> list[Any]:
    """A run whose stamps alone say it; an evaluation of 60 s every so many steps, and a save of 30 s after it."""
    rows: list[Any] = [began()]
    now = 0.0
    for at in range(1, last + 1):
        now += seconds(at)
        if at % every == 0:
            rows.append(step(at, after=now))
        if evaluate and at % evaluate == 0:
            now += 60.0
            rows.append(evaluation(at, "val", ts=T0 + now, loss=1.0))
            now += 30.0
    return [*rows, ended(after=now + 1)]


@pytest.mark.parametrize("make", [by_log, by_stamps])
@pytest.mark.parametrize(("factor", "found"), [(1.0, False), (1.45, False), (1.55, True), (4.0, True)])
def test_steps_that_take_longer_are_found(
    tmp_path: Path, make: Callable[..., list[Any]], factor: float, found: bool
) -> None:
    """Given steps of 1 s that slow down halfway, when diagnosed by logs and by stamps, then above 1.5 is a finding."""
    result = by_code(findings(tmp_path, make(lambda at: factor if at > 200 else 1.0)))
    assert ("step_time_growing" in result) is found
    if found:
        places = [place.step for place in result["step_time_growing"].places]
        assert places == [360 if make is by_log else 355, 400]


@pytest.mark.parametrize("evaluate", [5, 10, 25, 100])
def test_evaluations_and_saves_are_no_steps(tmp_path: Path, evaluate: int) -> None:
    """Given evaluations and saves that take longer than the steps, when diagnosed by stamps, then nothing is slower."""
    assert by_code(findings(tmp_path, by_stamps(lambda _: 1.0, evaluate=evaluate))) == {}


def test_evaluations_that_begin_late_are_no_growth(tmp_path: Path) -> None:
    """Given evaluations in the second half only, when diagnosed by stamps, then nothing is slower."""
    rows = by_stamps(lambda _: 1.0, last=200)[:-1]
    shift = 200.0
    for at in range(201, 401):
        shift += 1.0
        if at % 5 == 0:
            rows.append(step(at, after=shift))
        if at % 20 == 0:
            shift += 90.0
            rows.append(evaluation(at, "val", ts=T0 + shift, loss=1.0))
    diagnosis = diagnosed(tmp_path, [*rows, ended(after=shift + 1)])
    assert diagnosis.findings == ()
    assert diagnosis.measurement("throughput").value == pytest.approx(1.0)


def test_a_slow_warm_up_hides_nothing_and_is_no_fall(tmp_path: Path) -> None:
    """Given first steps of 30 s, when diagnosed, then the pace after them is what the end is held against."""
    rows = by_log(lambda at: 30.0 if at <= 20 else 1.0 if at <= 200 else 2.0)
    found = by_code(findings(tmp_path, rows))["step_time_growing"]
    assert found.evidence["first"]["step_s"] == 1.0


def test_longer_batches_are_not_slower(tmp_path: Path) -> None:
    """Given steps that take longer with as many tokens a second, when diagnosed, then nothing is said."""
    slow: Callable[[int], float] = lambda at: 1.0 + at / 200  # noqa: E731 - a shape
    assert by_code(findings(tmp_path, by_log(slow, tokens_per_s=lambda _: 900.0))) == {}
    found = by_code(findings(tmp_path, by_log(slow, tokens_per_s=lambda at: 900.0 / slow(at))))
    assert "step_time_growing" in found


def test_steps_of_milliseconds_may_move(tmp_path: Path) -> None:
    """Given steps of 8 ms that take 20, when diagnosed, then it has cost seconds and is no finding."""
    diagnosis = diagnosed(tmp_path, by_log(lambda at: 0.02 if at > 200 else 0.008))
    assert diagnosis.findings == ()
    assert diagnosis.measurement("throughput").details["step_time_ratio"] == pytest.approx(2.5)


def test_a_moment_is_no_growth(tmp_path: Path) -> None:
    """Given single steps of 60 s anywhere, when diagnosed, then the medians do not move."""
    assert by_code(findings(tmp_path, by_log(lambda at: 60.0 if at in {300, 380, 400} else 1.0))) == {}


@pytest.mark.parametrize(("last", "measured"), [(100, False), (130, True)])
def test_a_short_run_is_not_measured(tmp_path: Path, last: int, measured: bool) -> None:
    """Given fewer than 100 steps after the warm-up, when measured, then there is a reason in place of a number."""
    item = diagnosed(tmp_path, by_log(lambda _: 1.0, last=last)).measurement("throughput")
    assert (item.value is not None) is measured
    assert bool(item.reason) is not measured


def test_each_segment_is_measured_by_itself(tmp_path: Path) -> None:
    """Given a resumed run on a machine half as fast, when diagnosed, then its steps did not become slower."""
    write(tmp_path / "run.jsonl", by_log(lambda _: 1.0)[:-1])
    rows: list[Any] = [start(ts=T0 + 500, segment=1, resume_step=400)]
    for at in range(410, 801, 10):
        rows.append(record("train_step", at, ts=T0 + at + 100, loss=1.0))
        rows.append(record("metrics", at, ts=T0 + at + 100, kind="throughput", metrics={"step_s": 2.0}))
    write(tmp_path / "run.1.jsonl", [*rows, end(ts=T0 + 1_000)])
    diagnosis = judged(tmp_path)
    assert "step_time_growing" not in by_code(diagnosis.findings)
    assert diagnosis.measurement("throughput").value == pytest.approx(0.5)


def test_without_times_nothing_is_measured(tmp_path: Path) -> None:
    """Given a log whose ts is the order of its records, when measured, then there is no speed."""
    rows = by_stamps(lambda at: 1.0 + at / 100)
    rows[0]["meta"]["ts_source"] = "order"
    item = diagnosed(tmp_path, rows).measurement("throughput")
    assert item.value is None
    assert "step_s" in item.reason
