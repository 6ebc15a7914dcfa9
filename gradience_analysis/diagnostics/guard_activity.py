"""Guard activity: what the guard did while the run trained, and whether it helped.

Counted over the records of all segments, because what was superseded by a resume happened nevertheless: rollbacks
(`metrics` of kind `guard` with the action `rollback`, or `GUARD_ROLLBACK` alerts, whichever are more; `n_rollbacks`
where it says more), skipped updates, aborts, the triggers they name, and the step that each rollback restored. Values
of the wrong type are passed over and counted; they hide nothing else.

**`guard_thrashing` (T10).** Several rollbacks to the same step: the fault comes back with the same data or settings.
Or a rollback that says that it did not restore the optimizer (`optimizer_restored` false, `weights_only` true, or a
list `restored` without `optimizer`): Adam's moments stay poisoned, and so do the next steps.

**`guard_aborted`.** The guard gave up.

**`guard_rollbacks`.** The guard acted, and the run went on.

**`guard_noticed`.** `GUARD_TRIGGERED` alerts at steps without an action: it saw something and changed nothing, because
a clipped gradient does no harm, or because it only observes; then the finding says what it would have done.

**Not measured** without records of a guard; silence then says nothing about faults.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from gradience_analysis.model import Event, Finding, Measurement, Run, as_number, plural
from gradience_analysis.policy import Policy
from gradience_analysis.telemetry.alerts import context, is_of_guard
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "guard_thrashing": "The guard went back to one step again and again, or without the optimizer.",
    "guard_aborted": "The guard gave up.",
    "guard_rollbacks": "The guard rolled the run back, or skipped updates.",
    "guard_noticed": "The guard saw something and changed nothing.",
}
COVERS: Mapping[str, frozenset[str]] = dict.fromkeys(
    ("guard_thrashing", "guard_aborted"), frozenset({"guard_rollbacks"})
)
NAME = "guard_actions"
_ACTION_OF: Final[Mapping[str, str]] = {
    "GUARD_ROLLBACK": "rollback",
    "GUARD_SKIP": "skip",
    "GUARD_ABORT": "abort",
    "GUARD_ABORT_NO_SNAPSHOT": "abort",
}
_ACTIONS: Final = frozenset(_ACTION_OF.values())
_WOULD: Final[Mapping[str, str]] = {"rollback": "rolled back", "skip": "skipped the update", "abort": "given up"}
_SHOWN: Final = 5


@dataclass(slots=True)
class _Record:
    """One thing a guard said it did."""

    event: Event
    action: str
    details: Mapping[str, Any]


@dataclass(slots=True)
class _Side:
    """What one kind of record says: the metrics, or the alerts."""

    records: list[_Record] = field(default_factory=list[_Record])

    def of(self, action: str) -> list[_Record]:
        return [record for record in self.records if record.action == action]


def measure(run: Run) -> tuple[Measurement, ...]:
    """Number of actions (rollbacks, skips, aborts), with their triggers and the steps restored."""
    guarded = [
        event
        for segment in run.segments
        for event in segment.events
        if event.event == "metrics" and event.payload["kind"] == "guard"
    ]
    alerts = [alert for alert in run.alerts if is_of_guard(alert)]
    if not guarded and not alerts:
        return (
            Measurement(
                NAME, None, "actions", reason="no guard recorded anything: there are no metrics of kind guard."
            ),
        )
    metrics, raised = _Side(), _Side()
    for event in guarded:
        values: Mapping[str, Any] = event.payload["metrics"]
        _take(metrics, event, str(values.get("action")), values)
    for alert in alerts:
        _take(raised, alert, _ACTION_OF.get(str(alert.payload["code"]), ""), context(alert))
    chosen = {action: max(metrics.of(action), raised.of(action), key=len) for action in sorted(_ACTIONS)}
    told = [event.payload["metrics"] for event in guarded]
    return (_summed(run, chosen, told, [*metrics.records, *raised.records], _noticed(alerts, _acted(chosen))),)


def _noticed(alerts: Iterable[Event], acted: Iterable[_Record]) -> tuple[dict[str, int], list[Event]]:
    """What an alert without consequence would have led to (empty: to nothing), how often, and these alerts."""
    steps = {record.event.step for record in acted}
    only = [alert for alert in alerts if alert.payload["code"] == "GUARD_TRIGGERED" and alert.step not in steps]
    return dict(Counter(_WOULD.get(str(context(alert).get("would")), "") for alert in only)), only


def _take(side: _Side, event: Event, action: str, details: Mapping[str, Any]) -> None:
    if action in _ACTIONS:
        side.records.append(_Record(event, action, details))


def _summed(
    run: Run,
    chosen: Mapping[str, Sequence[_Record]],
    guarded: Sequence[Mapping[str, Any]],
    every: Sequence[_Record],
    noticed: tuple[dict[str, int], list[Event]],
) -> Measurement:
    told, odd = _told(guarded)
    rollbacks = max(len(chosen["rollback"]), told)
    without = [record for record in every if record.action == "rollback" and _leaves_optimizer(record.details)]
    details: dict[str, Any] = {
        "rollbacks": rollbacks,
        "skips": len(chosen["skip"]),
        "aborts": len(chosen["abort"]),
        "triggers": dict(
            Counter(_words(record.details.get("trigger")) for record in _acted(chosen)).most_common(_SHOWN)
        ),
        "restored_steps": _restored(chosen["rollback"]),
        # One rollback may be told twice, as metrics and as an alert, at one step.
        "without_optimizer": len({record.event.step for record in without}),
        "values_of_wrong_type": odd,
        "noticed": noticed[0],
        "reasons": [str(reason)[:80] for record in chosen["abort"] if (reason := record.details.get("reason"))],
    }
    events = [record.event for record in _acted(chosen)] or noticed[1]
    acted = sorted(events, key=lambda event: event.step or 0)
    places = tuple(run.place(event) for event in acted[:_SHOWN])
    value = rollbacks + len(chosen["skip"]) + len(chosen["abort"])
    source = "metrics of kind guard and GUARD_ alerts, whichever are more"
    return Measurement(NAME, value, "actions", source, details=details, places=places)


def _acted(chosen: Mapping[str, Sequence[_Record]]) -> list[_Record]:
    return [record for records in chosen.values() for record in records]


def _told(guarded: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """The highest `n_rollbacks` that is a count, and how many were none."""
    highest = odd = 0
    for values in guarded:
        if "n_rollbacks" not in values:
            continue
        count = as_number(values["n_rollbacks"])
        if count is None or not math.isfinite(count) or count < 0:
            odd += 1
        else:
            highest = max(highest, int(count))
    return highest, odd


def _restored(rollbacks: Sequence[_Record]) -> dict[str, int]:
    """How often each step was restored, the most frequent first; steps as text, as JSON has them."""
    steps = [as_number(record.details.get("restored_step")) for record in rollbacks]
    counts = Counter(int(step) for step in steps if step is not None and math.isfinite(step))
    return {str(step): count for step, count in counts.most_common(_SHOWN)}


def _leaves_optimizer(details: Mapping[str, Any]) -> bool:
    restored = details.get("restored")
    if isinstance(restored, list):
        return "optimizer" not in cast("list[object]", restored)
    return details.get("optimizer_restored") is False or details.get("weights_only") is True


def _words(trigger: object) -> str:
    return trigger[:80] if isinstance(trigger, str) and trigger else "unnamed"


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """Errors for an abort and for thrashing, a warning when the guard acted at all, an info when it only noticed."""
    (actions,) = measurements
    if not isinstance(actions.value, int):
        return []
    found = (_thrashing(actions, policy), _aborted(actions), _active(actions), _passive(actions))
    return [finding for finding in found if finding is not None]


def _thrashing(actions: Measurement, policy: Policy) -> Finding | None:
    limit = policy["guard_activity.rollbacks_to_one_step"]
    details = actions.details
    restored: Mapping[str, int] = details["restored_steps"]
    step, times = next(iter(restored.items()), ("", 0))
    parts: list[str] = []
    if times >= limit.value:
        parts.append(f"went back to step {step} {times} times")
    if details["without_optimizer"]:
        parts.append(f"rolled back {plural(details['without_optimizer'], 'time')} without the optimizer")
    if not parts:
        return None
    return Finding(
        code="guard_thrashing",
        rule="T10",
        severity=Severity.ERROR,
        message=f"The guard {' and '.join(parts)}{_why(details)}.",
        evidence=details,
        advice=(
            "Stop the run and look at the batch, the learning rate and the numeric type at these steps. "
            "A rollback has to restore the optimizer with the weights."
        ),
        confidence=0.95,
        basis=f"the guard's own records; the number of rollbacks is {limit.standing}",
        places=actions.places,
    )


def _aborted(actions: Measurement) -> Finding | None:
    details = actions.details
    if not details["aborts"]:
        return None
    before = f"{plural(details['rollbacks'], 'rollback')} and {plural(details['skips'], 'skipped update')}"
    because = f": {details['reasons'][0]}" if details["reasons"] else ""
    return Finding(
        code="guard_aborted",
        severity=Severity.ERROR,
        message=f"The guard gave up after {before}{_why(details)}{because}.",
        evidence=details,
        advice="Look at the steps before the first action of the guard; a lower learning rate is worth a try.",
        confidence=1.0,
        basis="the guard's own records",
        places=actions.places,
    )


def _active(actions: Measurement) -> Finding | None:
    details = actions.details
    done = [
        plural(details[name], word)
        for name, word in (("rollbacks", "rollback"), ("skips", "skipped update"))
        if details[name]
    ]
    if not done:
        return None
    return Finding(
        code="guard_rollbacks",
        severity=Severity.WARNING,
        message=f"The guard acted: {', '.join(done)}{_why(details)}.",
        evidence=details,
        advice=(
            "Look at the batches of these steps. The guard keeps a run alive; it does not mend data or settings, "
            "so confirm the result with an evaluation."
        ),
        confidence=1.0,
        basis="the guard's own records",
        places=actions.places,
    )


def _passive(actions: Measurement) -> Finding | None:
    noticed: Mapping[str, int] = actions.details["noticed"]
    if not noticed:
        return None
    would = [f"{did} {plural(count, 'time')}" for did, count in noticed.items() if did]
    instead = f" It only observes; acting, it would have {', '.join(would)}." if would else ""
    return Finding(
        code="guard_noticed",
        severity=Severity.INFO,
        message=f"The guard saw something at {plural(sum(noticed.values()), 'step')} and changed nothing.{instead}",
        evidence=actions.details,
        advice="Look at the gradient norm of these steps before you let the guard act on such ones.",
        confidence=1.0,
        basis="the guard's own records",
        places=actions.places,
    )


def _why(details: Mapping[str, Any]) -> str:
    named = [trigger for trigger in details["triggers"] if trigger != "unnamed"]
    return f" (trigger {', '.join(named)})" if named else ""
