"""The scale of float16 training: collapsed, switched off, or coming down from its start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.diagnostics.machine import T0, by_code, diagnosed, ended, findings, step
from tests.analysis.records import CONFIG, record


def run_of(dtype: str = "float32", last: int = 600, every: int = 10, **fields: Callable[[int], object]) -> list[Any]:
    """A run whose train_step records have these fields."""
    config = {**CONFIG, "training": {**CONFIG["training"], "dtype": dtype, "max_steps": None}}
    rows = [record("run_start", ts=T0, config=config)]
    rows += [step(at, **{name: make(at) for name, make in fields.items()}) for at in range(every, last + 1, every)]
    return [*rows, ended()]


SCALES: dict[str, tuple[Callable[[int], float], bool]] = {
    "collapses": (lambda at: max(0.5, 65_536.0 / 2 ** (at // 20)), True),
    "collapses and comes back": (lambda at: 1.0 if at == 300 else 1_024.0, True),
    "settles": (lambda at: max(2_048.0, 65_536.0 / 2 ** (at // 20)), False),
    "is switched off": (lambda _: 1.0, False),
    "was off before": (lambda at: 1.0 if at < 100 else 8.0, False),
    "is 2": (lambda _: 2.0, False),
}


@pytest.mark.parametrize("shape", SCALES)
@pytest.mark.parametrize("name", ["loss_scale", "scale"])
def test_only_a_scale_that_comes_down_to_one_has_collapsed(tmp_path: Path, shape: str, name: str) -> None:
    """Given the shapes of a loss scale, when diagnosed, then only one that falls to 1 or below is a finding."""
    values, found = SCALES[shape]
    assert ("loss_scale_collapsed" in by_code(findings(tmp_path, run_of(**{name: values})))) is found


@pytest.mark.parametrize(
    ("count", "found"),
    [
        (lambda at: min(at, 16), False),  # sixteen at the start, as the scale comes down
        (lambda at: at // 50, False),  # 2 of 100
        (lambda at: at // 25, True),  # 4 of 100
        (lambda at: 3 * (at > 300), True),
        (lambda at: 2 * (at > 300), False),
    ],
)
@pytest.mark.parametrize("name", ["overflow_steps", "skipped_steps"])
def test_overflows_count_after_the_start(tmp_path: Path, name: str, count: Callable[[int], int], found: bool) -> None:
    """Given counters of skipped steps, when diagnosed, then 3 of 100 steps after the first 100 are a finding."""
    assert ("loss_scale_collapsed" in by_code(findings(tmp_path, run_of(**{name: count})))) is found


@pytest.mark.parametrize(("dtype", "measured"), [("float16", True), ("bfloat16", False)])
def test_the_callback_counts_overflows_of_float16(tmp_path: Path, dtype: str, measured: bool) -> None:
    """Given the callback's counter of non-finite gradients, when measured, then it counts overflows under float16."""
    rows = run_of(dtype, nonfinite_grad_steps=lambda at: at // 25)
    assert (diagnosed(tmp_path, rows).measurement("overflow_steps").value is not None) is measured


def test_counters_start_anew_in_each_process(tmp_path: Path) -> None:
    """Given a resumed run whose counter is back at 0, when measured, then the fall is no rate and no error."""
    rows = [*run_of(overflow_steps=lambda at: at // 100)[:-1], *run_of(overflow_steps=lambda at: at // 100)]
    item = diagnosed(tmp_path, rows).measurement("overflow_steps")
    assert isinstance(item.value, float)
    assert item.value <= 2.0


def test_nothing_logged_is_not_measured(tmp_path: Path) -> None:
    """Given neither scale nor counter, when measured, then both are absent with what to log."""
    diagnosis = diagnosed(tmp_path, run_of())
    for name, field in (("loss_scale", "loss_scale"), ("overflow_steps", "overflow_steps")):
        assert diagnosis.measurement(name).value is None
        assert field in diagnosis.measurement(name).reason
