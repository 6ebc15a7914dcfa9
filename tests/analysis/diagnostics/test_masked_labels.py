"""Masked labels: the signature of batches without a label, told from every other zero and NaN."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from gradience_schema import Severity
from tests.analysis.diagnostics.steps import declared, diagnosis, ended, findings, logs

NAN = math.nan


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"loss": NAN, "grad_norm": 0.0}, id="the loss is logged as NaN"),
        pytest.param({"loss": 0.0, "grad_norm": 0.0, "nonfinite_loss_steps": lambda step: step}, id="it is hidden"),
        pytest.param({"loss": 0.0, "grad_norm": 0.0}, id="it is 0"),
        pytest.param({"num_items_in_batch": 0, "loss": 2.0}, id="a count says so"),
    ],
)
def test_labels_that_are_all_ignored_explain_the_rest(tmp_path: Path, fields: dict[str, Any]) -> None:
    """Given a run whose batches have no label, when diagnosed, then D07 alone is said of loss and gradient."""
    found = findings(tmp_path, ended([declared(), *logs(range(2, 61, 2), **fields)]))
    one = found["labels_all_ignored"]
    assert (one.rule, one.severity) == ("D07", Severity.ERROR)
    assert not found.keys() & {"nonfinite_loss", "hidden_nonfinite", "grad_norm_zero", "no_learning"}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"loss": NAN, "grad_norm": NAN}, id="the gradient is NaN too"),
        pytest.param({"loss": 2.0, "grad_norm": 0.0}, id="the loss is a number"),
        pytest.param({"loss": 0.0, "grad_norm": 0.4}, id="there is a gradient"),
        pytest.param({"loss": lambda step: 0.0 if step > 6 else 1.0, "grad_norm": 0.0}, id="it began with a loss"),
        pytest.param({"num_items_in_batch": lambda step: 0 if step < 50 else 7}, id="most batches are empty"),
    ],
)
def test_other_zeros_are_something_else(tmp_path: Path, fields: dict[str, Any]) -> None:
    """Given a zero or a NaN of another kind, when diagnosed, then the labels are not blamed."""
    assert "labels_all_ignored" not in findings(tmp_path, ended([declared(), *logs(range(2, 61, 2), **fields)]))


def test_without_norms_it_is_not_measured(tmp_path: Path) -> None:
    """Given no gradient norm, when measured, then the reason says what to log."""
    said = diagnosis(tmp_path, ended([declared(), *logs(range(1, 5), grad_norm=None)]))
    item = said.measurement("records_without_labels")
    assert item.value is None
    assert "grad_norm" in item.reason
