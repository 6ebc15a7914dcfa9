"""Declared steps: the formula, what it tolerates, and when it is not asked."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.model import Measurement
from gradience_schema import Severity
from tests.analysis.diagnostics.steps import declared, diagnosis, ended, findings, logs

NUMBERS: dict[str, Any] = {
    "num_train_examples": 1000,
    "batch_size": 8,
    "gradient_accumulation": 2,
    "world_size": 2,
    "epochs": 3.0,
    "max_steps": 96,
}
"""ceil(1000 / 32) = 32 steps an epoch."""


def codes(folder: Path, rows: list[dict[str, Any]], **training: Any) -> set[str]:
    """Codes found in a run that declares these numbers."""
    return set(findings(folder, ended([declared(**{**NUMBERS, **training}), *rows])))


@pytest.mark.parametrize(("steps", "expected"), [(96, False), (93, False), (99, False), (92, True), (192, True)])
def test_one_step_an_epoch_is_tolerated(tmp_path: Path, steps: int, expected: bool) -> None:
    """Given three epochs, when the declared steps are more than three off, then V08 says both numbers."""
    found = findings(tmp_path, ended([declared(**{**NUMBERS, "max_steps": steps}), *logs(range(1, 5))]))
    assert ("total_steps_inconsistent" in found) is expected
    if expected:
        one = found["total_steps_inconsistent"]
        assert (one.rule, one.severity) == ("V08", Severity.WARNING)
        assert str(steps) in one.message
        assert "96" in one.message


def test_epochs_that_agree_with_the_declaration_are_believed(tmp_path: Path) -> None:
    """Given logged epochs of which the declared steps make three, when judged, then the declaration is right."""
    rows = logs(range(2, 49, 2), epoch=lambda step: step / 64)
    assert "total_steps_inconsistent" not in codes(tmp_path, rows, max_steps=192)


@pytest.mark.parametrize("name", NUMBERS)
def test_missing_number_is_named(tmp_path: Path, name: str) -> None:
    """Given one number that is not declared, when measured, then the reason names it."""
    rows = ended([declared(**{**NUMBERS, name: None}), *logs(range(1, 5))])
    item = diagnosis(tmp_path, rows).measurement("declared_steps_off")
    assert item.value is None
    assert name in item.reason


@given(
    st.integers(1, 10**6),
    st.integers(1, 64),
    st.integers(1, 16),
    st.integers(1, 8),
    st.one_of(st.integers(1, 5), st.sampled_from([0.5, 1.5, 2.25])),
)
def test_formula_is_that_of_the_trainer(
    examples: int, batch: int, accumulation: int, world: int, epochs: float
) -> None:
    """Given any numbers, when computed as a loader and a trainer do one after the other, then the difference is 0."""
    from gradience_analysis.diagnostics import declared_steps
    from gradience_analysis.model import Run
    from gradience_schema import ConfigSnapshot

    batches = math.ceil(examples / (batch * world))
    steps = math.ceil(epochs * math.ceil(batches / accumulation))
    training = {
        "num_train_examples": examples,
        "batch_size": batch,
        "gradient_accumulation": accumulation,
        "world_size": world,
        "epochs": epochs,
        "max_steps": steps,
    }
    run = Run("x", "x", (), (), config=ConfigSnapshot.from_dict({"training": training}))
    (item,) = declared_steps.measure(run)
    assert isinstance(item, Measurement)
    assert item.value == 0
