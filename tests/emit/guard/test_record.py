"""What the guard writes: which alert, how grave, in which words, and what it counts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from gradience_emit.guard import Action, Decision, GuardOptions, Judgement, Trigger, Verdict
from gradience_emit.guard.record import GuardRecord, GuardSummary


class Written:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        self.kept: list[tuple[int | None, str, dict[str, Any]]] = []

    def alert(self, **fields: Any) -> None:
        """Keep an alert."""
        self.alerts.append(fields)

    def metrics(self, step: int | None, *, kind: str, metrics: Mapping[str, Any], **extras: Any) -> None:
        """Keep measurements."""
        assert not extras
        self.kept.append((step, kind, dict(metrics)))


def record(**options: Any) -> tuple[GuardRecord, Written]:
    """A record and what it writes."""
    written = Written()
    return GuardRecord(GuardOptions(**options), lambda: written), written


def act(one: GuardRecord, decision: Decision, judged: Judgement, **restored: Any) -> None:
    """Record an act at step 7."""
    one.acted(7, decision, judged, loss=1.5, restored=restored, lr_multiplier=0.5, bad_in_a_row=2)


SKIPPED = Judgement(Verdict.SKIP, Trigger.GRADIENT_SPIKE, 1234.5, 100.0)
BROKEN = Judgement(Verdict.RESTORE, Trigger.NONFINITE_STATE, float("nan"))
RESTORED = {"restored_step": 4, "restored": ["weights", "optimizer", "rng"], "optimizer_restored": True}


@pytest.mark.parametrize(
    ("decision", "judged", "restored", "code", "severity", "message"),
    [
        (
            Decision(Action.SKIP), SKIPPED, {}, "GUARD_SKIP", "warning",
            "The gradient norm stood out (1.23e+03 over a limit of 100); the guard skipped the update.",
        ),
        (
            Decision(Action.SKIP, "10 steps of cooldown since the rollback"), BROKEN, {}, "GUARD_SKIP", "warning",
            ("Weights or optimizer state were NaN or infinite; the guard skipped the update: "
            "10 steps of cooldown since the rollback."),
        ),
        (
            Decision(Action.ROLLBACK), BROKEN, RESTORED, "GUARD_ROLLBACK", "warning",
            ("Weights or optimizer state were NaN or infinite; "
            "the guard rolled back to the state after step 4."),
        ),
        (
            Decision(Action.ABORT, "20 bad steps in a row", stops=True), SKIPPED, {}, "GUARD_ABORT", "error",
            ("The gradient norm stood out (1.23e+03 over a limit of 100); "
            "the guard gave up: 20 bad steps in a row; training stops."),
        ),
        (
            Decision(Action.ABORT, "4 rollbacks"), BROKEN, RESTORED, "GUARD_ABORT", "error",
            ("Weights or optimizer state were NaN or infinite; "
            "the guard gave up: 4 rollbacks; training goes on without it."),
        ),
        (
            Decision(Action.ABORT, "there is no snapshot to restore", stops=True), BROKEN, {},
            "GUARD_ABORT_NO_SNAPSHOT", "error",
            ("Weights or optimizer state were NaN or infinite; "
            "the guard gave up: there is no snapshot to restore; training stops."),
        ),
        (
            Decision(Action.ABORT, "the guard itself failed"), Judgement(Verdict.FAILED, Trigger.GUARD_FAULT), {},
            "GUARD_FAULT", "error",
            "The guard itself failed; training goes on without it.",
        ),
    ],
    ids=["skip", "cooldown", "rollback", "abort", "abort-restored", "no-snapshot", "fault"],
)  # fmt: skip
def test_every_act_has_its_alert(
    caplog: pytest.LogCaptureFixture,
    decision: Decision,
    judged: Judgement,
    restored: dict[str, Any],
    code: str,
    severity: str,
    message: str,
) -> None:
    """Given a decision, when it is recorded, then alert, metrics and log say what was seen and what was done."""
    one, written = record()
    with caplog.at_level(logging.WARNING, "gradience_emit"):
        act(one, decision, judged, **restored)
    (alert,) = written.alerts
    assert (alert["code"], alert["severity"], alert["message"], alert["step"]) == (code, severity, message, 7)
    assert caplog.messages == [f"step 7: {message}"]
    ((step, kind, metrics),) = written.kept
    assert (step, kind) == (7, "guard")
    assert metrics == {"action": str(decision.action), **alert["context"]}
    assert metrics["trigger"] == str(judged.trigger)
    assert {name: metrics[name] for name in restored} == restored
    assert (metrics["lr_multiplier"], metrics["bad_in_a_row"], metrics["mode"]) == (0.5, 2, "act")
    assert metrics.get("reason", "") == decision.reason
    assert metrics.get("limit") == judged.limit
    assert one.gave_up == (decision.reason if decision.action is Action.ABORT else None)


def test_an_observing_guard_only_says_what_it_would_have_done(caplog: pytest.LogCaptureFixture) -> None:
    """Given mode observe, when decisions are recorded, then each is a note, none is an act, and nothing is logged."""
    one, written = record(mode="observe")
    with caplog.at_level(logging.WARNING, "gradience_emit"):
        act(one, Decision(Action.SKIP), SKIPPED)
        act(one, Decision(Action.ROLLBACK), BROKEN)
        act(one, Decision(Action.ABORT, "3 rollbacks", stops=True), BROKEN)
    assert [(a["code"], a["severity"], a["context"]["would"]) for a in written.alerts] == [
        ("GUARD_TRIGGERED", "info", would) for would in ("skip", "rollback", "abort")
    ]
    assert all("would have" in alert["message"] for alert in written.alerts)
    assert written.kept == []
    assert caplog.messages == []
    assert (one.skips, one.rollbacks, one.triggers) == (1, 1, 3)


def test_a_row_of_bad_steps_is_one_recovery() -> None:
    """Given bad steps and good ones, when they are recorded, then a recovery is a row of bad ones that ended."""
    one, written = record()
    one.went_on()
    for bad, good in ((2, 3), (1, 1), (3, 0)):
        for _ in range(bad):
            act(one, Decision(Action.SKIP), SKIPPED)
        for _ in range(good):
            one.went_on()
    assert (one.skips, one.recoveries, one.triggers) == (6, 2, 6)
    act(one, Decision(Action.ABORT, "enough"), SKIPPED)
    one.went_on()
    assert one.recoveries == 2, "a training that goes on without the guard has not recovered"
    assert [metrics["n_skips"] for _, _, metrics in written.kept] == [1, 2, 3, 4, 5, 6, 6]


def test_the_beginning_says_every_limit() -> None:
    """Given options, when the guard begins, then GUARD_INIT and the metrics hold each of them."""
    one, written = record(snapshot_every=7, lr_backoff=0.5)
    one.began(3, ("weights", "rng"))
    (alert,) = written.alerts
    assert (alert["code"], alert["severity"], alert["step"]) == ("GUARD_INIT", "info", 3)
    assert "experimental" in alert["message"]
    limits = GuardOptions(snapshot_every=7, lr_backoff=0.5).limits()
    assert alert["context"] == limits
    assert written.kept == [(3, "guard", {"action": "init", "restores": ["weights", "rng"], **limits})]


def test_only_the_first_snapshot_is_an_alert() -> None:
    """Given three snapshots, when they are recorded, then all are metrics, and the first one says what they take."""
    one, written = record()
    for count in (1, 2, 3):
        one.took_snapshot(10 * count, count, count << 20)
    assert [alert["code"] for alert in written.alerts] == ["GUARD_SNAPSHOT"]
    assert [(step, m["snapshot_count"], m["memory_mb"]) for step, _, m in written.kept] == [
        (10, 1, 1.0), (20, 2, 2.0), (30, 3, 3.0),
    ]  # fmt: skip
    assert one.snapshots == 3


def test_a_note_changes_nothing_but_the_count() -> None:
    """Given a clipped spike, when it is noticed, then it is an alert of severity info with its norm and limit."""
    one, written = record()
    one.noticed(5, Judgement(Verdict.WARN, Trigger.GRADIENT_CAP, 500.0, 100.0), 2.5)
    (alert,) = written.alerts
    assert (alert["code"], alert["severity"]) == ("GUARD_TRIGGERED", "info")
    assert alert["context"] == {"trigger": "gradient_cap", "grad_norm": 500.0, "limit": 100.0, "loss": 2.5}
    assert (one.triggers, one.skips, one.rollbacks) == (1, 0, 0)


def test_the_summary_is_written_as_it_is_returned() -> None:
    """Given a summary, when the run ends, then the last metrics hold every field of it."""
    one, written = record()
    summary = GuardSummary(total_rollbacks=2, total_skips=3, integrity_status="recovered", ms_per_step=0.5)
    one.ended(9, summary)
    assert written.kept == [
        (9, "guard", {"action": "summary", "n_rollbacks": 2, "n_skips": 3, **summary.to_dict()})
    ]  # fmt: skip


def test_a_rank_that_does_not_write_counts_all_the_same() -> None:
    """Given no writer, when everything is recorded, then only the counters move."""
    one = GuardRecord(GuardOptions(), lambda: None)
    one.began(0, ())
    one.took_snapshot(1, 1, 10)
    one.noticed(2, SKIPPED, None)
    act(one, Decision(Action.ROLLBACK), BROKEN, **RESTORED)
    one.went_on()
    one.ended(3, GuardSummary())
    assert (one.snapshots, one.triggers, one.rollbacks, one.recoveries) == (1, 2, 1, 1)
