"""Gradient norm: whether it explodes, is zero, fades away, or is cut at nearly every step.

What is logged as `grad_norm` is the norm over all trainable parameters **before** clipping, at the step of the record;
steps between two logs are not seen.

**`grad_norm_exploding` (T03).** Either the norm is NaN or infinite while no loss is; or several logs, within 50 of one
another, stand far above the median of up to 50 logs before them: by a factor, and, once there are 25 logs before to
know the noise, by a distance on a logarithmic scale in units of 1.4826 x MAD, because norms vary by factors and the
noise of one run is the burst of another. The highest must also be far above all logs before the first of them: late in
a fit, when most norms are small, a single wrong row brings back the norm of the start. Logs with fewer than 5 before
them are compared with nothing; bursts that are far apart are hard batches; and a norm whose level rises while the loss
falls is an adapter that leaves its start at zero. A norm that alone is infinite under a float16 loss scaler does not
count.

**`grad_norm_zero` (T08).** The norm is exactly 0 in many logs in a row: nothing that is trained receives a gradient.

**`grad_norm_vanishing`.** The median of the last 30% of the logs is a tiny share of that of the first ones (of the
first tenth, at least 5 logs), while the loss has not fallen. A norm that falls together with the loss is learning.

**`mostly_clipped`.** Information: nearly all logs have a norm above the declared `max_grad_norm`, and most by a
factor. Clipping scales the whole gradient by max_grad_norm / norm. Under SGD that divides the effective learning rate;
Adam divides by the size of the gradients itself, so that there a constant factor cancels and only the differences
between steps are evened out.

**May be wrong** where a run is short, or logs so rarely that a burst falls between two logs.
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gradience_analysis.diagnostics.nonfinite_values import counted_steps, uses_loss_scaler
from gradience_analysis.model import Finding, Measurement, Place, Run, plural
from gradience_analysis.policy import Policy
from gradience_analysis.series.robust import MAD_TO_SIGMA, mad, median
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "grad_norm_exploding": "The gradient norm is not finite, or is again and again far above its running median.",
    "grad_norm_zero": "The gradient norm is 0 log after log.",
    "grad_norm_vanishing": "The gradient norm has faded away while the loss has not fallen.",
    "mostly_clipped": "The gradient is clipped at nearly every step.",
}
COVERS: Mapping[str, frozenset[str]] = {"grad_norm_zero": frozenset({"grad_norm_vanishing", "no_learning"})}
_WINDOW: Final = 50
_HISTORY: Final = 5
_SPREAD: Final = 25
_KEPT: Final = 20
_SHOWN: Final = 5
_LATE: Final = 0.3
_EARLY: Final = 0.1
_FEWEST_EARLY: Final = 5
_NOT_LOGGED: Final = "no train_step carries grad_norm. Log it with each record."
_SOURCE: Final = "grad_norm of train_step records, before clipping"


def measure(run: Run) -> tuple[Measurement, ...]:
    """The norm's bursts, rows of zeros, late share of its early level, and share above the clipping limit."""
    norms = run.series("grad_norm")
    return (_nonfinite(run), _bursts(run, norms), _zeros(run, norms), _fading(run, norms), _clipped(run, norms))


def _nonfinite(run: Run) -> Measurement:
    """Steps with a non-finite norm in a run whose losses are finite; 0 where a loss scaler explains them."""
    name = "nonfinite_gradient_alone"
    norms, losses = run.series("grad_norm"), run.series("loss")
    counted = counted_steps(run, "nonfinite_grad_steps")
    if counted is None and not norms:
        return Measurement(name, None, "steps", reason=_NOT_LOGGED)
    shown = {step for step, norm in norms if norm - norm != 0.0}
    if not shown and not counted:
        return Measurement(name, 0, "steps", f"{_SOURCE}, and nonfinite_grad_steps")
    hidden = any(loss == 0.0 and step in shown for step, loss in losses)
    if hidden or counted_steps(run, "nonfinite_loss_steps") or any(loss - loss != 0.0 for _, loss in losses):
        return Measurement(name, 0, "steps", "a loss is not finite either, which nonfinite_values counts")
    scaled = uses_loss_scaler(run)
    details = {"records": len(shown), "counter": counted, "loss_scaler": scaled}
    events = [event for event in run.of("train_step") if event.step in shown]
    places = tuple(run.place(event) for event in events[:_SHOWN])
    value = 0 if scaled else max(counted or 0, len(shown))
    return Measurement(name, value, "steps", f"{_SOURCE}, and nonfinite_grad_steps", details=details, places=places)


def _bursts(run: Run, norms: Sequence[tuple[int, float]]) -> Measurement:
    """The largest ratio of a norm to the median of up to 50 before it, with the twenty largest."""
    name = "grad_norm_burst"
    finite = [(step, value) for step, value in norms if 0.0 <= value < math.inf]
    if len(finite) <= _HISTORY:
        found = f"only {plural(len(finite), 'log')} of it" if finite else "no log of it"
        reason = f"a burst needs {_HISTORY} logs of grad_norm before it, and there is {found}. Log it more often."
        return Measurement(name, None, "ratio", reason=reason)
    values = [value for _, value in finite]
    largest = heapq.nlargest(_KEPT, _ratios(values))
    losses = [pair for pair in run.series("loss") if math.isfinite(pair[1])]
    bursts: list[dict[str, Any]] = []
    for ratio, place in largest:
        before = values[max(0, place - _WINDOW) : place]
        burst = {"step": finite[place][0], "log": place, "grad_norm": values[place], "median": median(before)}
        told = {"ratio": ratio, "deviations": _log_deviations(values[place], before)}
        later = median(values[place : place + _SPREAD]) / burst["median"]
        peak = max(values[:place])
        around = _losses_around(losses, finite[place][0])
        bursts.append({**burst, **told, "level_ratio": later, "peak_before": peak, **around})
    value = largest[0][0] if largest else 0.0
    source = f"{_SOURCE}, over the median of up to {_WINDOW} logs before"
    return Measurement(name, value, "ratio", source, details={"largest": bursts}, places=_places(run, bursts))


def _ratios(values: Sequence[float]) -> list[tuple[float, int]]:
    """(value / median of the window before it, place) where that median is above 0 and has enough behind it."""
    ordered: list[float] = []
    found: list[tuple[float, int]] = []
    for place, value in enumerate(values):
        count = len(ordered)
        if count >= _HISTORY:
            half = count // 2
            middle = ordered[half] if count % 2 else ordered[half - 1] / 2 + ordered[half] / 2
            if value > middle > 0.0:
                found.append((value / middle, place))
        bisect.insort(ordered, value)
        if count == _WINDOW:
            del ordered[bisect.bisect_left(ordered, values[place - _WINDOW])]
    return found


def _log_deviations(value: float, before: Sequence[float]) -> float | None:
    """Distance on a logarithmic scale in robust standard deviations; None where no spread is known to measure it in."""
    logs = [math.log(one) for one in before if one > 0.0]
    if len(logs) < _SPREAD:
        return None
    centre = median(logs)
    spread = MAD_TO_SIGMA * mad(logs, centre)
    return (math.log(value) - centre) / spread if spread > 0.0 else None


def _losses_around(losses: Sequence[tuple[int, float]], step: int) -> dict[str, float | None]:
    """Median losses of up to 25 logs before a step, and from it on; None without any."""
    place = bisect.bisect_left(losses, step, key=lambda pair: pair[0])
    before = [loss for _, loss in losses[max(0, place - _SPREAD) : place]]
    after = [loss for _, loss in losses[place : place + _SPREAD]]
    return {"loss_before": median(before) if before else None, "loss_after": median(after) if after else None}


def _places(run: Run, bursts: Sequence[Mapping[str, Any]]) -> tuple[Place, ...]:
    steps = {burst["step"] for burst in bursts}
    found = [event for event in run.of("train_step") if event.step in steps and "grad_norm" in event.payload]
    return tuple(run.place(event) for event in found)


def _zeros(run: Run, norms: Sequence[tuple[int, float]]) -> Measurement:
    """The longest row of logs with a norm of exactly 0."""
    name = "grad_norm_zero_logs"
    if not norms:
        return Measurement(name, None, "logs in a row", reason=_NOT_LOGGED)
    best, first, last, row = 0, None, None, 0
    start = norms[0][0]
    for step, value in norms:
        if value != 0.0:
            row = 0
            continue
        if row == 0:
            start = step
        row += 1
        if row > best:
            best, first, last = row, start, step
    details = {"first_step": first, "last_step": last, "logs": len(norms)}
    places = tuple(run.place(event) for event in run.of("train_step") if best and event.step == first)[:1]
    return Measurement(name, best, "logs in a row", _SOURCE, details=details, places=places)


def _fading(run: Run, norms: Sequence[tuple[int, float]]) -> Measurement:
    """Median of the last 30% of the norms over that of the first tenth, with the same of the loss."""
    name = "grad_norm_late_share"
    late, early = _late_and_early(norms)
    if not early:
        reason = f"there are fewer than {2 * _FEWEST_EARLY} finite logs of grad_norm. Log it more often."
        return Measurement(name, None, "ratio", reason=reason)
    late_loss, early_loss = _late_and_early(run.series("loss"))
    before, after = median(early), median(late)
    if not before:
        return Measurement(name, None, "ratio", reason="the early norm is 0, and a ratio to it is undefined.")
    details = {
        "early": before,
        "late": after,
        "early_loss": median(early_loss) if early_loss else None,
        "late_loss": median(late_loss) if late_loss else None,
    }
    source = f"{_SOURCE}; medians of the last 30% and of the first tenth"
    return Measurement(name, after / before, "ratio", source, details=details)


def _late_and_early(series: Sequence[tuple[int, float]]) -> tuple[list[float], list[float]]:
    values = [value for _, value in series if math.isfinite(value)]
    if len(values) < 2 * _FEWEST_EARLY:
        return [], []
    early = max(_FEWEST_EARLY, int(len(values) * _EARLY))
    return values[-max(1, int(len(values) * _LATE)) :], values[:early]


def _clipped(run: Run, norms: Sequence[tuple[int, float]]) -> Measurement:
    """Share of the finite norms above the declared limit."""
    name = "clipped_share"
    limit = run.config.training.max_grad_norm if run.config else None
    if limit is None:
        return Measurement(name, None, "share of logs", reason="no clipping limit is declared. Log max_grad_norm.")
    if not limit > 0:
        return Measurement(name, None, "share of logs", reason="clipping is off, so that no step is clipped.")
    finite = [value for _, value in norms if math.isfinite(value)]
    if not finite:
        return Measurement(name, None, "share of logs", reason=_NOT_LOGGED)
    above = sum(value > limit for value in finite)
    details = {"logs": len(finite), "limit": limit, "median": median(finite)}
    return Measurement(name, above / len(finite), "share of logs", f"{_SOURCE}, and max_grad_norm", details=details)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """Errors for an explosion and for a norm of 0, a warning for one that fades, information on clipping."""
    alone, bursts, zeros, fading, clipped = measurements
    found = (
        _exploding(alone, bursts, policy),
        _is_zero(zeros, policy),
        _vanishing(fading, policy),
        _mostly_clipped(clipped, policy),
    )
    return [finding for finding in found if finding is not None]


def _exploding(alone: Measurement, bursts: Measurement, policy: Policy) -> Finding | None:
    ratio, deviations = policy["gradient_norm.burst_ratio"], policy["gradient_norm.burst_deviations"]
    counted = _together(
        [
            burst
            for burst in bursts.details.get("largest", ())
            if burst["ratio"] > ratio.value and (burst["deviations"] is None or burst["deviations"] > deviations.value)
        ]
    )
    parts: list[str] = []
    evidence: dict[str, Any] = {}
    places: tuple[Place, ...] = ()
    if isinstance(alone.value, int) and alone.value > 0:
        parts.append(f"was NaN or infinite at {plural(alone.value, 'step')} while the loss was finite")
        evidence[alone.name] = {"value": alone.value, **alone.details}
        places += alone.places
    if len(counted) >= policy.limit("gradient_norm.bursts") and _is_new(counted, policy):
        times = plural(len(counted), "log")
        steps = [burst["step"] for burst in counted]
        worst = max(counted, key=lambda burst: float(burst["ratio"]))
        parts.append(
            f"stood {ratio.value:g} times above its running median in {times} "
            f"({worst['grad_norm']:.3g} against {worst['median']:.3g} at step {worst['step']})"
        )
        evidence[bursts.name] = {"bursts": counted, "first_step": min(steps), "last_step": max(steps)}
        places += tuple(place for place in bursts.places if place.step in steps)
    if not parts:
        return None
    return Finding(
        code="grad_norm_exploding",
        rule="T03",
        severity=Severity.ERROR,
        message=f"The gradient norm {' and '.join(parts)}.",
        evidence=evidence,
        advice=(
            "Try a lower learning rate, a longer warm-up or gradient clipping (max_grad_norm 1.0); "
            "look at the batches of these steps."
        ),
        confidence=0.95 if alone.name in evidence else 0.8,
        basis="the values stand in the records" if alone.name in evidence else f"the limits are {ratio.standing}",
        caveat="" if alone.name in evidence else "rare hard batches give single high norms in a sound run too",
        places=places[:_SHOWN],
    )


def _together(bursts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The most bursts that lie within one window of logs, in order."""
    ordered = sorted(bursts, key=lambda burst: int(burst["log"]))
    groups = [
        [burst for burst in ordered[first:] if burst["log"] < ordered[first]["log"] + _WINDOW]
        for first in range(len(ordered))
    ]
    return max(groups, key=len) if groups else []


def _is_new(bursts: Sequence[Mapping[str, Any]], policy: Policy) -> bool:
    """Whether the run had no such norms before, and does not learn by them: a level that rises while the loss falls."""
    first = bursts[0]
    highest = max(float(burst["grad_norm"]) for burst in bursts)
    if highest < policy.limit("gradient_norm.peak_ratio") * first["peak_before"]:
        return False
    before, after = first["loss_before"], first["loss_after"]
    if before is None or after is None:
        return True
    return bool(first["level_ratio"] <= policy.limit("gradient_norm.level_ratio") or after >= before)


def _is_zero(zeros: Measurement, policy: Policy) -> Finding | None:
    limit = policy["gradient_norm.zero_logs"]
    if not isinstance(zeros.value, int) or zeros.value < limit.value:
        return None
    first, last = zeros.details["first_step"], zeros.details["last_step"]
    return Finding(
        code="grad_norm_zero",
        rule="T08",
        severity=Severity.ERROR,
        message=f"The gradient norm was exactly 0 in {zeros.value} logs in a row (steps {first} to {last}).",
        evidence={"logs_in_a_row": zeros.value, **zeros.details},
        advice=(
            "Look at whether any parameter has requires_grad, whether the adapter is the active one, "
            "and whether the loss still depends on it (no detach, no all-masked labels)."
        ),
        confidence=0.95,
        basis=f"the values stand in the records; the number of logs is {limit.standing}",
        caveat="a norm that is rounded when it is logged can read 0 at the end of a fit",
        places=zeros.places,
    )


def _vanishing(fading: Measurement, policy: Policy) -> Finding | None:
    share, loss = policy["gradient_norm.late_share"], policy["gradient_norm.late_loss_share"]
    details = fading.details
    if not isinstance(fading.value, float) or fading.value >= share.value:
        return None
    before, after = details["early_loss"], details["late_loss"]
    if before is None or after is None or before <= 0 or after < loss.value * before:
        return None
    return Finding(
        code="grad_norm_vanishing",
        severity=Severity.WARNING,
        message=(
            f"The gradient norm fell from {details['early']:.3g} to {details['late']:.3g} "
            f"while the loss went from {before:.3g} to {after:.3g}."
        ),
        evidence={"share": fading.value, **details},
        advice="Try a lower learning rate: activations that saturated pass no gradient. Look at the numeric type too.",
        confidence=0.6,
        basis=f"medians of the first tenth and the last 30% of the logs; the limits are {share.standing}",
        caveat="a schedule that ends near 0 does not lower the norm, but a task that cannot be learned may",
    )


def _mostly_clipped(clipped: Measurement, policy: Policy) -> Finding | None:
    share, logs = policy["gradient_norm.clipped_share"], policy["gradient_norm.clipped_logs"]
    if not isinstance(clipped.value, float) or clipped.value < share.value or clipped.details["logs"] < logs.value:
        return None
    limit, middle = clipped.details["limit"], clipped.details["median"]
    if middle < policy.limit("gradient_norm.clipped_excess") * limit:
        return None
    return Finding(
        code="mostly_clipped",
        severity=Severity.INFO,
        message=(
            f"The gradient was clipped in {clipped.value:.0%} of {clipped.details['logs']} logged steps: "
            f"its median norm {middle:.3g} is {middle / limit:.2g} times the limit {limit:g}."
        ),
        evidence={"share": clipped.value, **clipped.details},
        advice=(
            "Nothing need be wrong. With SGD the limit then sets the effective learning rate; with Adam it only evens "
            "out the steps. Compare runs at the same limit, or raise it to about the median norm."
        ),
        confidence=0.9,
        basis=f"the logged norm is that before clipping; the share is {share.standing}",
        caveat="steps between two logs are not seen",
    )
