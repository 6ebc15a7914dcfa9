"""Non-finite values: NaN or infinity in losses, gradients, metrics, and in the callback's own counters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

from gradience_analysis.model import Event, Finding, Measurement, Run, as_number, plural
from gradience_analysis.policy import Policy
from gradience_schema import Severity

_COUNTERS = {"loss": "nonfinite_loss_steps", "grad_norm": "nonfinite_grad_steps"}
_COUNTED = frozenset({"train_step", "run_end"})
_SAMPLES = 5


def measure(run: Run) -> tuple[Measurement, ...]:
    """Records and steps with a non-finite loss, gradient norm or evaluation metric.

    The count of steps is the callback's own counter where there is one (it sees every step, whatever the
    trainer hides); without one, the records that show a non-finite value.
    """
    segments = [[event for event in segment.events if event.event in _COUNTED] for segment in run.segments]
    return (*(_steps(segments, field) for field in _COUNTERS), _evaluations(run), _alerts(run))


def _steps(segments: Sequence[Sequence[Event]], field: str) -> Measurement:
    name = f"nonfinite_{field}_steps"
    records = chain.from_iterable(segments)
    logged = [event for event in records if field in event.payload and event.event == "train_step"]
    shown = [event.step for event in logged if _is_nonfinite(event, field)]
    counted = _counted(segments, _COUNTERS[field])
    if counted is None and not logged:
        return Measurement(name, None, "steps", reason=f"no train_step carries {field}.")
    details = {"records": len(shown), "steps": shown[:_SAMPLES], "counter": counted}
    if counted is None:
        source = f"{field} of train_step records; steps between two logs are not seen"
    else:
        source = f"the callback's counter {_COUNTERS[field]}, every step"
    return Measurement(name, max(counted or 0, len(shown)), "steps", source, details=details)


def _is_nonfinite(event: Event, field: str) -> bool:
    value = event.payload.get(field)
    return isinstance(value, float) and not math.isfinite(value)


def _counted(segments: Sequence[Sequence[Event]], counter: str) -> int | None:
    """Sum over segments of the highest count: the counter is cumulative and starts anew in each."""
    peaks: list[int] = []
    for events in segments:
        values = [as_number(event.payload[counter]) for event in events if counter in event.payload]
        known = [int(value) for value in values if value is not None and math.isfinite(value)]
        if known:
            peaks.append(max(known))
    return sum(peaks) if peaks else None


def _evaluations(run: Run) -> Measurement:
    places = [
        {"split": split, "step": point.step, "metric": metric}
        for split, points in run.evaluations.items()
        for point in points
        for metric, value in point.metrics.items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    if not run.evaluations:
        return Measurement("nonfinite_eval_metrics", None, "values", reason="no evaluation was logged.")
    details = {"places": places[:_SAMPLES]}
    return Measurement("nonfinite_eval_metrics", len(places), "values", "metrics of eval records", details=details)


def _alerts(run: Run) -> Measurement:
    codes = [str(alert.payload["code"]) for alert in run.alerts if _speaks_of_nonfinite(alert)]
    return Measurement("nonfinite_alerts", len(codes), "alerts", "alert records", details={"codes": codes[:_SAMPLES]})


def _speaks_of_nonfinite(alert: Event) -> bool:
    context: dict[str, Any] = alert.payload.get("context") or {}
    words = f"{alert.payload['code']} {context.get('trigger', '')}".lower()
    return any(word in words for word in ("nan", "nonfinite", "non_finite", "inf_loss", "inf_grad"))


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error when more steps than the policy allows were non-finite; one finding names them all."""
    found = [item for item in measurements if isinstance(item.value, int) and item.value > policy.nonfinite_steps.value]
    if not found:
        return []
    words = {
        "nonfinite_loss_steps": ("loss at {}", "step"),
        "nonfinite_grad_norm_steps": ("gradient norm at {}", "step"),
        "nonfinite_eval_metrics": ("{}", "evaluation metric"),
        "nonfinite_alerts": ("{} about them", "alert"),
    }
    parts = [words[item.name][0].format(plural(int(item.value or 0), words[item.name][1])) for item in found]
    return [
        Finding(
            code="nonfinite_values",
            severity=Severity.ERROR,
            message=f"NaN or infinite values: {', '.join(parts)}{_first_step(found)}.",
            evidence={item.name: {"value": item.value, "source": item.source, **item.details} for item in found},
            advice=(
                "Look at the batch of the first such step; try a lower learning rate, gradient clipping, "
                "or bfloat16 in place of float16. Do not use a checkpoint saved after it without a check."
            ),
            confidence=1.0,
            basis="the values stand in the records",
            caveat=(
                ""
                if any(item.name != "nonfinite_grad_norm_steps" for item in found)
                else "a float16 loss scaler skips steps with an infinite gradient, which is how it is meant to work"
            ),
        )
    ]


def _first_step(found: Sequence[Measurement]) -> str:
    steps = [step for item in found for step in item.details.get("steps", ()) if step is not None]
    return f" (first logged at step {min(steps)})" if steps else ""
