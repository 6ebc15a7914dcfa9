"""Non-finite values: which code says what, and that a hidden NaN is told from an open one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from gradience_schema import Severity
from tests.analysis.diagnostics.steps import declared, diagnosis, ended, findings, logs
from tests.analysis.records import record

ROOT = Path(__file__).parents[3]
NAN = math.nan


def test_zero_loss_with_nonfinite_norm_is_a_hidden_nan(tmp_path: Path) -> None:
    """Given losses of 0.0 with NaN norms, when diagnosed, then T02 is said with its first step, and T01 is not."""
    rows = [declared(), *logs(range(1, 11)), *logs(range(11, 16), loss=0.0, grad_norm=NAN)]
    found = findings(tmp_path, ended(rows))
    hidden = found["hidden_nonfinite"]
    assert (hidden.rule, hidden.severity, hidden.places[0].step, hidden.places[0].line) == (
        "T02",
        Severity.ERROR,
        11,
        12,
    )
    assert "5 records" in hidden.message
    assert found.keys() == {"hidden_nonfinite"}


def test_counter_above_what_is_logged_is_a_hidden_nan(tmp_path: Path) -> None:
    """Given a counter of NaN losses and finite logs, when diagnosed, then T02 names the steps and the labels."""
    rows = [declared(), *logs(range(1, 11), nonfinite_loss_steps=lambda step: 2 * (step >= 5), nonfinite_grad_steps=0)]
    hidden = findings(tmp_path, ended(rows))["hidden_nonfinite"]
    assert "2 steps (first at step 5)" in hidden.message
    assert "labels" in hidden.advice


def test_counter_with_nonfinite_gradients_does_not_blame_the_labels(tmp_path: Path) -> None:
    """Given counted NaN losses and gradients, when diagnosed, then the advice says nothing about labels."""
    rows = [declared(), *logs(range(1, 11), nonfinite_loss_steps=1, nonfinite_grad_steps=1)]
    assert "labels" not in findings(tmp_path, ended(rows))["hidden_nonfinite"].advice


def _act(action: Any, **metrics: Any) -> dict[str, Any]:
    return record("metrics", 30, ts=30.0, kind="guard", metrics={"action": action, **metrics})


@pytest.mark.parametrize(
    ("acts", "severity"),
    [
        ([("skip", "nonfinite_loss"), ("rollback", "nonfinite_state")], Severity.WARNING),
        ([("skip", "nonfinite_loss")], Severity.ERROR),
        ([("skip", "nonfinite_loss"), ("skip", "gradient_spike")], Severity.ERROR),
        ([("skip", "nonfinite_loss"), ("skip", "nonfinite_gradient"), ("abort", "nonfinite_loss")], Severity.ERROR),
        ([], Severity.ERROR),
    ],
    ids=["each undone", "one of two", "for another reason", "gave up", "no guard"],
)
def test_steps_that_a_guard_undid_are_a_warning(
    tmp_path: Path, acts: list[tuple[str, str]], severity: Severity
) -> None:
    """Given two counted NaN steps, when a guard undid each and did not give up, then it is a warning, else an error."""
    rows = [declared(), *logs(range(1, 11), nonfinite_loss_steps=2, nonfinite_grad_steps=2)]
    found = findings(tmp_path, ended([*rows, *(_act(action, trigger=trigger) for action, trigger in acts)]))
    hidden = found["hidden_nonfinite"]
    assert hidden.severity is severity
    assert ("the guard undid each of these steps" in hidden.message) is (severity is Severity.WARNING)


def test_an_action_of_another_type_is_none(tmp_path: Path) -> None:
    """Given a guard record whose action is a list, when diagnosed, then it counts for nothing and hides nothing."""
    rows = [declared(), *logs(range(1, 11), nonfinite_loss_steps=1), _act([], trigger=["nonfinite_loss"])]
    assert findings(tmp_path, ended(rows))["hidden_nonfinite"].severity is Severity.ERROR


def test_a_nonfinite_evaluation_is_an_error_with_a_guard_too(tmp_path: Path) -> None:
    """Given a step that the guard undid and a NaN in the evaluation, when diagnosed, then it stays an error."""
    rows = [declared(), *logs(range(1, 11), nonfinite_loss_steps=1), _act("skip", trigger="nonfinite_loss")]
    bad = record("eval", 10, ts=10.0, split="val", metrics={"loss": NAN})
    assert findings(tmp_path, ended([*rows, bad]))["hidden_nonfinite"].severity is Severity.ERROR


@pytest.mark.parametrize(("zeros", "expected"), [(5, True), (4, False)])
def test_loss_stuck_at_zero_is_a_hidden_nan(tmp_path: Path, zeros: int, expected: bool) -> None:
    """Given a loss that drops to 0.0 and stays, without norms, when diagnosed, then five such logs are enough."""
    rows = [declared(), *logs(range(1, 21), grad_norm=None), *logs(range(21, 21 + zeros), loss=0.0, grad_norm=None)]
    assert ("hidden_nonfinite" in findings(tmp_path, ended(rows))) is expected


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"grad_norm": 0.3}, id="a gradient contradicts"),
        pytest.param({"grad_norm": None, "_filter": False}, id="the filter is off"),
        pytest.param({"grad_norm": None, "_before": 0.005}, id="it was near 0 before"),
    ],
)
def test_loss_of_zero_alone_is_no_hidden_nan(tmp_path: Path, change: dict[str, Any]) -> None:
    """Given a loss that is 0.0 for another reason, when diagnosed, then nothing non-finite is said."""
    start = declared(logging_nan_inf_filter=change.get("_filter"))
    before: dict[str, Any] = {"grad_norm": change["grad_norm"]} | ({"loss": 0.005} if "_before" in change else {})
    rows = [start, *logs(range(1, 21), **before), *logs(range(21, 31), loss=0.0, grad_norm=change["grad_norm"])]
    assert not findings(tmp_path, ended(rows)).keys() & {"hidden_nonfinite", "nonfinite_loss"}


def test_open_nan_is_said_once(tmp_path: Path) -> None:
    """Given NaN losses that are logged, when diagnosed, then T01 is said, and neither T02 nor T03."""
    rows = [declared(), *logs(range(1, 11)), *logs(range(11, 16), loss=NAN, grad_norm=NAN, nonfinite_loss_steps=5)]
    found = findings(tmp_path, ended(rows))
    assert found.keys() & {"nonfinite_loss", "hidden_nonfinite", "grad_norm_exploding"} == {"nonfinite_loss"}
    assert found["nonfinite_loss"].places[0].step == 11


def test_gradient_alone_is_left_to_the_gradient_norm(tmp_path: Path) -> None:
    """Given a NaN norm beside finite losses, when diagnosed, then T03 says it and T01 does not."""
    rows = [declared(), *logs(range(1, 11)), *logs([11], grad_norm=math.inf)]
    found = findings(tmp_path, ended(rows))
    assert found.keys() & {"nonfinite_loss", "grad_norm_exploding"} == {"grad_norm_exploding"}
    assert found["grad_norm_exploding"].places[0].step == 11


def test_overflow_under_a_loss_scaler_is_no_finding(tmp_path: Path) -> None:
    """Given float16 with counted overflow steps, when diagnosed, then they are measured and nothing is said."""
    alert = record(
        "alert",
        2,
        ts=2.0,
        severity="warning",
        code="NONFINITE_GRAD",
        message="m",
        context={"fp16_grad_scaler": True},
    )
    rows = [declared(dtype="float16"), *logs([1, 2], grad_norm=math.inf, nonfinite_grad_steps=2), alert]
    rows += logs(range(3, 30), nonfinite_grad_steps=2, nonfinite_loss_steps=0)
    said = diagnosis(tmp_path, ended(rows))
    assert said.measurement("nonfinite_grad_norm_steps").value == 2
    codes = {finding.code for finding in said.findings}
    assert not codes & {"nonfinite_loss", "hidden_nonfinite", "grad_norm_exploding", "alerts_warning"}


def test_words_that_only_contain_nan_are_no_nan(tmp_path: Path) -> None:
    """Given an alert about maintenance, when diagnosed, then no value is called NaN."""
    alert = record("alert", 3, ts=3.5, severity="warning", code="MAINTENANCE_WINDOW", message="m")
    found = findings(tmp_path, ended([declared(), *logs(range(1, 4)), alert]))
    assert found.keys() == {"alerts_warning"}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("fixtures/runs/nan_batch", "hidden_nonfinite"),
        ("fixtures/foreign/transformers/hidden_nan/trainer_state.json", "hidden_nonfinite"),
        ("fixtures/foreign/transformers/open_nan/trainer_state.json", "nonfinite_loss"),
    ],
)
def test_real_runs_with_a_nan(path: str, code: str) -> None:
    """Given recorded runs with a NaN, hidden or not, when diagnosed, then exactly that is said."""
    from gradience_analysis.diagnostics import DIAGNOSTICS, diagnose
    from gradience_analysis.telemetry.assemble import load_run
    from tests.analysis.diagnostics.steps import POLICY

    found = {finding.code for finding in diagnose(load_run(ROOT / path), DIAGNOSTICS, POLICY).findings}
    assert found & {"hidden_nonfinite", "nonfinite_loss", "alerts_error"} == {code}
