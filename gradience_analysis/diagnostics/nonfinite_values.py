"""Non-finite values: whether a loss, a gradient norm or a metric was NaN or infinite, and whether the log hides it.

**Counted.** Steps with a non-finite loss and with a non-finite gradient norm, from the callback's own counters
(`nonfinite_loss_steps`, `nonfinite_grad_steps`: every step, whatever the trainer hides), summed over segments because
they start anew in each; without the counters, the `train_step` records that show such a value. Also evaluation metrics
that are not finite, and alerts that speak of such values.

**`nonfinite_loss` (T01).** A loss, an evaluation metric or an alert says so.

**`hidden_nonfinite` (T02).** The trainer option `logging_nan_inf_filter` leaves non-finite losses out of the mean that
is logged, so that a run whose every weight is NaN logs a loss of 0.0. Three things show it: a loss of exactly 0.0
beside a non-finite gradient norm; a counter above 0 while each logged loss is finite; and, without either, a loss that
falls to exactly 0.0 and stays there to the end, with no gradient norm that would contradict. It replaces T01.

**Guarded.** Where a guard recorded that it dropped an update or restored a state for each such step, and did not give
up, the finding is a warning and says so: the values were there, and the weights did not take them up.

**Silent** about a gradient norm that alone is not finite: `grad_norm_exploding` says that. Under a float16 loss scaler
an infinite gradient is how a too large scale shows, and the step is skipped: it is counted here, and is no finding.

**May be wrong** in its third sign: a loss that is rounded to four digits and truly vanishes also reads 0.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gradience_analysis.model import Event, Finding, Measurement, Run, as_number, plural
from gradience_analysis.policy import Policy
from gradience_analysis.series.robust import median
from gradience_analysis.telemetry.alerts import is_of_loss_scaler, is_of_nonfinite
from gradience_analysis.telemetry.schedules import FLOAT16
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "nonfinite_loss": "The loss, a gradient norm or a metric is NaN or infinite.",
    "hidden_nonfinite": "The logged loss looks finite while the loss or the gradients are NaN or infinite.",
}
COVERS: Mapping[str, frozenset[str]] = {"hidden_nonfinite": frozenset({"nonfinite_loss"})}
_COUNTERS = {"loss": "nonfinite_loss_steps", "grad_norm": "nonfinite_grad_steps"}
_SAMPLES = 5


@dataclass(slots=True)
class _Seen:
    """What the records of a run show, from one pass over them."""

    logged: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTERS, 0))
    shown: dict[str, list[Event]] = field(default_factory=lambda: {name: [] for name in _COUNTERS})
    counted: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(_COUNTERS))
    masked: list[Event] = field(default_factory=list[Event])
    zeros: list[Event] = field(default_factory=list[Event])
    norms_with_zeros: int = 0
    before_zeros: list[float] = field(default_factory=list[float])


def measure(run: Run) -> tuple[Measurement, ...]:
    """Records and steps with a non-finite loss, gradient norm or evaluation metric, and what hides them."""
    seen = _look(run)
    return (*(_steps(run, seen, name) for name in _COUNTERS), _evaluations(run), _alerts(run), _hidden(run, seen))


def _look(run: Run) -> _Seen:
    seen = _Seen(counted={name: counted_steps(run, counter) for name, counter in _COUNTERS.items()})
    curves = {name: run.series(name) for name in _COUNTERS}
    if (
        len(run.segments) == 1
        and _is_plain(curves["loss"])
        and all(norm - norm == 0 for _, norm in curves["grad_norm"])
    ):
        seen.logged = {name: len(curve) for name, curve in curves.items()}
        return seen
    for segment in run.segments:
        for event in segment.events:
            if event.event == "train_step":
                _look_at(event, seen)
    return seen


def _is_plain(losses: Sequence[tuple[int, float]]) -> bool:
    """Whether every loss is finite and not 0, so that no record has to be looked at one by one."""
    return bool(losses) and all(loss != 0.0 and loss - loss == 0.0 for _, loss in losses)


def counted_steps(run: Run, counter: str) -> int | None:
    """Sum over segments of a counter that is cumulative and starts anew in each; None when no record carries it."""
    peaks: list[int] = []
    for segment in run.segments:
        values = [event.payload[counter] for event in segment.events if counter in event.payload]
        numbers = [number for value in values if (number := as_number(value)) is not None and math.isfinite(number)]
        if numbers:
            peaks.append(int(max(numbers)))
    return sum(peaks) if peaks else None


def _look_at(event: Event, seen: _Seen) -> None:
    payload = event.payload
    loss, norm = payload.get("loss"), payload.get("grad_norm")
    bad_norm = isinstance(norm, float) and not math.isfinite(norm)
    if "grad_norm" in payload:
        seen.logged["grad_norm"] += 1
        if bad_norm:
            seen.shown["grad_norm"].append(event)
    if "loss" not in payload:
        return
    seen.logged["loss"] += 1
    number = as_number(loss)
    if number is not None and not math.isfinite(number):
        seen.shown["loss"].append(event)
        # An importer that sees through the filter restores the NaN and keeps what was logged.
        if as_number(payload.get("logged_loss")) == 0:
            seen.masked.append(event)
    elif number == 0:
        seen.zeros.append(event)
        seen.norms_with_zeros += bool(norm) and not bad_norm
        if bad_norm:
            seen.masked.append(event)
    elif number is not None:
        if seen.zeros:
            seen.zeros, seen.norms_with_zeros, seen.before_zeros = [], 0, []
        seen.before_zeros = [*seen.before_zeros[1 - _SAMPLES :], abs(float(number))]


def _steps(run: Run, seen: _Seen, name: str) -> Measurement:
    slug, counted, shown = f"nonfinite_{name}_steps", seen.counted[name], seen.shown[name]
    if counted is None and not seen.logged[name]:
        return Measurement(slug, None, "steps", reason=f"no train_step carries {name}. Log it with each record.")
    details: dict[str, object] = {
        "records": len(shown),
        "steps": [event.step for event in shown[:_SAMPLES]],
        "counter": counted,
        "dropped_by_guard": dropped_by_guard(run),
    }
    if name == "grad_norm":
        details["loss_scaler"] = uses_loss_scaler(run)
    if counted is None:
        source = f"{name} of train_step records; steps between two logs are not seen"
    else:
        source = f"the callback's counter {_COUNTERS[name]}, every step"
    places = tuple(run.place(event) for event in shown[:_SAMPLES])
    return Measurement(slug, max(counted or 0, len(shown)), "steps", source, details=details, places=places)


def dropped_by_guard(run: Run) -> int:
    """Steps with something non-finite whose update a guard dropped or whose damage it undid; 0 where it gave up."""
    acted = [event.payload["metrics"] for event in run.metrics.get("guard", ())]
    said = [(str(values.get("action")), str(values.get("trigger"))) for values in acted]  # of any type in a file
    if any(action == "abort" for action, _ in said):
        return 0
    return sum(action in {"skip", "rollback"} and trigger.startswith("nonfinite") for action, trigger in said)


def uses_loss_scaler(run: Run) -> bool:
    """Whether a float16 loss scaler skips the steps whose gradients overflow: by the declared type, or an alert."""
    declared = (run.config.training.dtype or "") if run.config else ""
    return declared.lower() in FLOAT16 or any(is_of_loss_scaler(alert) for alert in run.alerts)


def _evaluations(run: Run) -> Measurement:
    found = [
        {"split": split, "step": point.step, "metric": metric}
        for split, points in run.evaluations.items()
        for point in points
        for metric, value in point.metrics.items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    if not run.evaluations:
        return Measurement("nonfinite_eval_metrics", None, "values", reason="no evaluation was logged.")
    details = {"places": found[:_SAMPLES]}
    return Measurement("nonfinite_eval_metrics", len(found), "values", "metrics of eval records", details=details)


def _alerts(run: Run) -> Measurement:
    alerts = [alert for alert in run.alerts if is_of_nonfinite(alert) and not is_of_loss_scaler(alert)]
    codes = [str(alert.payload["code"]) for alert in alerts]
    details = {"codes": codes[:_SAMPLES], "about_gradients": sum("GRAD" in code for code in codes)}
    return Measurement("nonfinite_alerts", len(codes), "alerts", "alert records", details=details)


def _hidden(run: Run, seen: _Seen) -> Measurement:
    """Steps whose non-finite loss the log does not show."""
    slug = "hidden_nonfinite_steps"
    if not seen.logged["loss"]:
        return Measurement(slug, None, "steps", reason="no train_step carries loss. Log it with each record.")
    counted = 0 if seen.shown["loss"] else seen.counted["loss"] or 0
    declared = run.config.training.logging_nan_inf_filter if run.config else None
    stuck = len(seen.zeros) if seen.before_zeros and declared is not False and not seen.norms_with_zeros else 0
    details = {
        "zero_loss_with_nonfinite_norm": len(seen.masked),
        "counted_but_not_logged": counted,
        "stuck_at_zero": stuck,
        "loss_before": median(seen.before_zeros) if stuck else None,
        "logging_nan_inf_filter": declared,
        "finite_gradients": counted > 0 and seen.counted["grad_norm"] == 0 and not seen.shown["grad_norm"],
    }
    first = seen.masked[:1] or (seen.zeros[:1] if stuck else [])
    if counted and not first:
        first = _first_counted(run)
    places = tuple(run.place(event) for event in first)
    source = "loss and grad_norm of train_step records, and the callback's counters where there are any"
    return Measurement(slug, max(len(seen.masked), counted), "steps", source, details=details, places=places)


def _first_counted(run: Run) -> list[Event]:
    """The first record whose counter of non-finite losses is above 0."""
    for segment in run.segments:
        for event in segment.events:
            count = as_number(event.payload.get(_COUNTERS["loss"])) if event.event == "train_step" else None
            if count:
                return [event]
    return []


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error when more steps than the policy allows were non-finite; one finding names them all."""
    by_name = {item.name: item for item in measurements}
    hidden = by_name.pop("hidden_nonfinite_steps")
    parts = _parts(by_name, policy.limit("nonfinite_values.steps"))
    finding = _hidden_finding(hidden, parts, policy) or _open_finding(by_name, parts)
    if finding is None:
        return []
    return [_softened(finding) if _guarded(by_name) else finding]


def _open_finding(by_name: Mapping[str, Measurement], parts: Mapping[str, str]) -> Finding | None:
    if not parts.keys() - {"nonfinite_grad_norm_steps"}:
        return None
    found = [by_name[name] for name in parts]
    return Finding(
        code="nonfinite_loss",
        rule="T01",
        severity=Severity.ERROR,
        message=f"NaN or infinite values: {', '.join(parts.values())}{_first_step(found)}.",
        evidence=_evidence(found),
        advice=(
            "Look at the batch of the first such step; try a lower learning rate, gradient clipping, "
            "or bfloat16 in place of float16. Do not use a checkpoint saved after it without a check."
        ),
        confidence=1.0,
        basis="the values stand in the records",
        places=tuple(place for item in found for place in item.places)[:_SAMPLES],
    )


def _guarded(by_name: Mapping[str, Measurement]) -> bool:
    """Whether the guard undid each non-finite step, and no evaluation was non-finite."""
    steps = [by_name[name] for name in ("nonfinite_loss_steps", "nonfinite_grad_norm_steps")]
    count = max((int(item.value) for item in steps if isinstance(item.value, int)), default=0)
    dropped = max((int(str(item.details.get("dropped_by_guard", 0))) for item in steps), default=0)
    return 0 < count <= dropped and not by_name["nonfinite_eval_metrics"].value


def _softened(finding: Finding) -> Finding:
    return replace(
        finding,
        severity=Severity.WARNING,
        message=f"{finding.message[:-1]}; the guard undid each of these steps.",
        advice="Look at the batches of these steps. The weights did not take them up.",
    )


def _parts(by_name: Mapping[str, Measurement], limit: float) -> dict[str, str]:
    """What was not finite, in words, by measurement; without a gradient norm that a loss scaler explains."""
    words = {
        "nonfinite_loss_steps": ("loss at {}", "step"),
        "nonfinite_grad_norm_steps": ("gradient norm at {}", "step"),
        "nonfinite_eval_metrics": ("{}", "evaluation metric"),
        "nonfinite_alerts": ("{} about them", "alert"),
    }
    counts = {name: int(item.value) for name, item in by_name.items() if isinstance(item.value, int)}
    if by_name["nonfinite_grad_norm_steps"].details.get("loss_scaler"):
        counts.pop("nonfinite_grad_norm_steps", None)
    if counts.get("nonfinite_grad_norm_steps") and not counts.get("nonfinite_loss_steps"):
        counts["nonfinite_alerts"] -= by_name["nonfinite_alerts"].details["about_gradients"]
    return {
        name: words[name][0].format(plural(count, words[name][1])) for name, count in counts.items() if count > limit
    }


def _hidden_finding(hidden: Measurement, parts: Mapping[str, str], policy: Policy) -> Finding | None:
    if hidden.value is None:
        return None
    details = hidden.details
    zeros, counted, stuck = (
        details[name] for name in ("zero_loss_with_nonfinite_norm", "counted_but_not_logged", "stuck_at_zero")
    )
    at = f" (first at step {hidden.places[0].step})" if hidden.places and hidden.places[0].step is not None else ""
    limit = policy.limit("nonfinite_values.steps")
    logs, before = policy["nonfinite_values.stuck_logs"], policy["nonfinite_values.loss_before_zero"]
    confidence, basis, caveat = 0.98, "the values stand in the records", ""
    if counted > limit:
        said = f"the loss was NaN or infinite at {plural(counted, 'step')}{at}, and no logged loss shows it"
    elif zeros > limit:
        said = f"a loss of 0.0 stands with a gradient norm that is not finite in {plural(zeros, 'record')}{at}"
    elif stuck >= logs.value and details["loss_before"] > before.value:
        said = f"the loss went from {details['loss_before']:.3g} to exactly 0.0 and stayed there for {stuck} logs{at}"
        confidence, basis = 0.7, f"no counter and no gradient norm confirm it; the limits are {logs.standing}"
        caveat = "a loss that is rounded when it is logged and truly vanishes reads the same"
    else:
        return None
    others = [words for name, words in parts.items() if name in {"nonfinite_eval_metrics", "nonfinite_grad_norm_steps"}]
    more = f"; also not finite: {', '.join(others)}" if others else ""
    return Finding(
        code="hidden_nonfinite",
        rule="T02",
        severity=Severity.ERROR,
        message=f"A NaN is hidden in the log: {said}{more}.",
        evidence=_evidence([hidden]),
        advice=_hidden_advice(details),
        confidence=confidence,
        basis=basis,
        caveat=caveat,
        places=hidden.places,
    )


def _hidden_advice(details: Mapping[str, object]) -> str:
    see = "Set logging_nan_inf_filter=False to see such losses when they occur."
    if details["finite_gradients"]:
        return f"{see} The gradients stayed finite, as with a batch whose labels are all -100: look at its labels."
    return f"{see} Look at the batch before the first one, and go back to a checkpoint whose weights are finite."


def _evidence(found: Sequence[Measurement]) -> dict[str, object]:
    return {item.name: {"value": item.value, "source": item.source, **item.details} for item in found}


def _first_step(found: Sequence[Measurement]) -> str:
    steps = [step for item in found for step in item.details.get("steps", ()) if step is not None]
    return f" (first logged at step {min(steps)})" if steps else ""
