"""Guard activity, and the alerts that no other diagnostic speaks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradience_schema import Severity
from tests.analysis.diagnostics.steps import declared, diagnosis, ended, findings, logs
from tests.analysis.records import record

GUARD = {"guard_rollbacks", "guard_noticed", "guard_thrashing", "guard_aborted", "alerts_warning", "alerts_error"}


def act(step: int, action: Any, **metrics: Any) -> dict[str, Any]:
    """What a guard did, as metrics."""
    return record("metrics", step, ts=float(step), kind="guard", metrics={"action": action, **metrics})


def alert(step: int, code: str, severity: str = "warning", **context: Any) -> dict[str, Any]:
    """The same as an alert."""
    return record("alert", step, ts=float(step), severity=severity, code=code, message="m", context=context)


def found(folder: Path, *rows: dict[str, Any]) -> dict[str, Severity]:
    """Findings about a guard and alerts, in a run with these records after its steps."""
    said = findings(folder, ended([declared(), *logs(range(1, 31)), *rows]))
    return {code: one.severity for code, one in said.items() if code in GUARD}


def test_one_rollback_is_a_warning_said_once(tmp_path: Path) -> None:
    """Given one rollback as metrics and as an alert, when diagnosed, then one warning says one rollback."""
    rows = [act(31, "rollback", restored_step=20, trigger="grad_spike"), alert(31, "GUARD_ROLLBACK", restored_step=20)]
    said = findings(tmp_path, ended([declared(), *logs(range(1, 31)), *rows]))
    assert said.keys() & GUARD == {"guard_rollbacks"}
    assert said["guard_rollbacks"].message == "The guard acted: 1 rollback (trigger grad_spike)."
    assert said["guard_rollbacks"].places[0].step == 31


def test_an_observing_guard_says_what_it_would_have_done(tmp_path: Path) -> None:
    """Given triggers without an action, when diagnosed, then one info counts them and says what was withheld."""
    rows = [alert(step, "GUARD_TRIGGERED", "info", would="skip", mode="observe") for step in (31, 33)]
    said = findings(tmp_path, ended([declared(), *logs(range(1, 31)), *rows]))
    assert said.keys() & GUARD == {"guard_noticed"}
    assert said["guard_noticed"].severity is Severity.INFO
    assert said["guard_noticed"].message == (
        "The guard saw something at 2 steps and changed nothing. "
        "It only observes; acting, it would have skipped the update 2 times."
    )


def test_a_trigger_with_its_action_is_said_once(tmp_path: Path) -> None:
    """Given a trigger and the rollback it led to at one step, when diagnosed, then nothing was merely noticed."""
    rows = [alert(31, "GUARD_TRIGGERED", "info"), alert(31, "GUARD_ROLLBACK", restored_step=20)]
    assert found(tmp_path, *rows) == {"guard_rollbacks": Severity.WARNING}


def test_giving_up_says_after_what_and_why(tmp_path: Path) -> None:
    """Given a skip and an abort with a reason, when diagnosed, then the error names both."""
    rows = [act(31, "skip", trigger="nonfinite_loss"), act(32, "abort", reason="2 bad steps in a row")]
    said = findings(tmp_path, ended([declared(), *logs(range(1, 31)), *rows]))
    assert said["guard_aborted"].message == (
        "The guard gave up after 0 rollbacks and 1 skipped update (trigger nonfinite_loss): 2 bad steps in a row."
    )


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((20, 20), {"guard_thrashing": Severity.ERROR}),
        ((20, 25), {"guard_rollbacks": Severity.WARNING}),
    ],
)
@pytest.mark.parametrize("as_alert", [True, False])
def test_two_rollbacks_to_one_step_are_thrashing(
    tmp_path: Path, steps: tuple[int, int], expected: dict[str, Severity], as_alert: bool
) -> None:
    """Given two rollbacks, when both restore one step, then it is T10, and otherwise a warning."""
    rows = [
        alert(31 + place, "GUARD_ROLLBACK", restored_step=step)
        if as_alert
        else act(31 + place, "rollback", restored_step=step)
        for place, step in enumerate(steps)
    ]
    assert found(tmp_path, *rows) == expected


@pytest.mark.parametrize(
    "details", [{"optimizer_restored": False}, {"weights_only": True}, {"restored": ["weights", "rng"]}]
)
@pytest.mark.parametrize("as_alert", [True, False])
def test_rollback_without_the_optimizer_is_thrashing(tmp_path: Path, details: dict[str, Any], as_alert: bool) -> None:
    """Given one rollback that says it left the optimizer, when diagnosed, then it is T10."""
    row = alert(31, "GUARD_ROLLBACK", **details) if as_alert else act(31, "rollback", **details)
    assert found(tmp_path, row) == {"guard_thrashing": Severity.ERROR}


def test_rollback_with_the_optimizer_is_not(tmp_path: Path) -> None:
    """Given one rollback that restored everything, when diagnosed, then it is a warning."""
    row = act(31, "rollback", optimizer_restored=True, weights_only=False, restored=["weights", "optimizer"])
    assert found(tmp_path, row) == {"guard_rollbacks": Severity.WARNING}


@pytest.mark.parametrize("odd", ["x", None, [1], {}, float("nan"), -3, True])
def test_values_of_the_wrong_type_hide_nothing(tmp_path: Path, odd: Any) -> None:
    """Given counts and steps of the wrong type, when an abort follows, then it is found, and the slip is counted."""
    rows = [
        act(31, "rollback", n_rollbacks=odd, restored_step=odd, trigger=odd),
        act(32, odd),
        act(33, "abort", n_rollbacks=odd),
        alert(33, "GUARD_ABORT", "error", restored=odd),
    ]
    said = diagnosis(tmp_path, ended([declared(), *logs(range(1, 31)), *rows]))
    codes = {one.code: one.severity for one in said.findings if one.code in GUARD}
    assert codes == {"guard_aborted": Severity.ERROR}
    actions = said.measurement("guard_actions")
    assert (actions.details["rollbacks"], actions.details["aborts"]) == (1, 1)
    assert actions.details["values_of_wrong_type"] == 2


def test_higher_count_of_rollbacks_is_believed(tmp_path: Path) -> None:
    """Given one recorded rollback and a summary that counts four, when measured, then there were four."""
    rows = [act(31, "rollback", restored_step=20, n_rollbacks=1), act(32, "summary", n_rollbacks=4)]
    said = diagnosis(tmp_path, ended([declared(), *logs(range(1, 31)), *rows]))
    assert said.measurement("guard_actions").details["rollbacks"] == 4


def test_guard_that_only_watched_is_no_finding(tmp_path: Path) -> None:
    """Given a guard that took snapshots, when diagnosed, then nothing is said and 0 actions are measured."""
    rows = [act(31, "init", ring_size=5), act(32, "snapshot"), alert(32, "GUARD_SNAPSHOT", "info")]
    said = diagnosis(tmp_path, ended([declared(), *logs(range(1, 31)), *rows]))
    assert said.measurement("guard_actions").value == 0
    assert not {one.code for one in said.findings} & GUARD


def test_no_guard_is_not_measured(tmp_path: Path) -> None:
    """Given a run without a guard, when measured, then there is a reason and no 0."""
    item = diagnosis(tmp_path, ended([declared(), *logs(range(1, 5))])).measurement("guard_actions")
    assert item.value is None
    assert item.reason


def test_alerts_of_others_are_said_by_them_alone(tmp_path: Path) -> None:
    """Given alerts of a guard, of a NaN and of neither, when diagnosed, then the last alone is a recorded alert."""
    rows = [
        alert(31, "GUARD_SKIP"),
        alert(31, "NONFINITE_LOSS", "error", nonfinite_loss_steps=1),
        alert(31, "DISK_NEARLY_FULL", "error"),
    ]
    said = findings(tmp_path, ended([declared(), *logs(range(1, 31)), *rows]))
    assert said.keys() & (GUARD | {"nonfinite_loss"}) == {"guard_rollbacks", "nonfinite_loss", "alerts_error"}
    assert said["alerts_error"].evidence["codes"] == {"DISK_NEARLY_FULL": 1}
