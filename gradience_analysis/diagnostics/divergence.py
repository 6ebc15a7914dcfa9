"""Divergence: does the training loss end far above where it has been?

**Measured**: `loss_kept`, the part of the fall of the training loss that is still there at the end: (start - end) /
(start - best). 1 means that the run ends at its best, 0 that all is lost, below 0 that it ends above its start; NaN
when it never fell. *Best* is the lowest median of up to twenty consecutive parts of the curve, *end* the last of up
to ten. *Start* is the first loss, the median of the first three, or that of the first part: whichever the end is most
surely above, when that is clear (a run can blow up within its first steps), else the highest of them. *Peak* is the
highest median within the first third. Rises are also given as multiples of what chance does to such medians, on a
logarithmic scale, from the differences of neighbouring losses in the later half.

**A finding** (error) is one of three. The end is above the start by more than `divergence.above_start` (relative). Or
more than `divergence.lost` of the fall is lost again, and the end is above the best by more than
`divergence.above_best` (relative). Or the loss blew up early, to a peak above the first losses by more than
`divergence.peak` (relative), and the end is above `divergence.back` of the first losses. A rise from the first losses
must also be more than `divergence.deviations` times what chance does, one from the best level more than
`divergence.best_deviations` times.

**Nothing is said** where the loss comes back: that is a spike. Nor where the training loss stays low and the held-out
loss alone rises: that is memorization. Both, and what else the curve would show, are hidden by divergence. With fewer
than ten logged losses, with a loss that takes negative values or stands beside a reward (reinforcement learning), it
is not measured.

**It may be wrong** where the data change on the way, as in a curriculum or a second task: the loss then rises with
nothing wrong. It is missed where the first log already is the mean of a blow-up, and the loss then falls from there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gradience_analysis.model import Finding, Measurement, Run
from gradience_analysis.policy import Policy
from gradience_analysis.series.levels import Curve, Level, level, levels, relative_noise, uncertainty
from gradience_analysis.telemetry.losses import LossCurve, training_losses
from gradience_analysis.telemetry.places import train_step_places
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "divergence": "The training loss ends far above its best or its first level, and does not come back.",
}
# A loss that is lost again has jumped, has not learned and has no plateau, and says nothing about held-out data.
COVERS: Mapping[str, frozenset[str]] = {
    "divergence": frozenset({"loss_spike", "no_learning", "plateau", "memorization", "generalization_gap"})
}
NAME = "loss_kept"
_PARTS = 20
_A_PART = 3
_LEAST = 10
_LATE_PARTS = 10
_CLEARLY = 3.0
_ZERO = 1e-6
_LEAST_CHANCE = 1e-3
_LIMIT = {"above_start": "divergence.above_start", "lost": "divergence.lost", "blown_up": "divergence.peak"}
_DEVIATIONS = {"above_start": "start_deviations", "lost": "best_deviations", "blown_up": "peak_deviations"}


def measure(run: Run) -> tuple[Measurement, ...]:
    """The part of the fall of the training loss that is still there at the end, with the levels it is taken from."""
    curve = training_losses(run)
    if isinstance(curve, str):
        return (Measurement(NAME, None, "share of the fall", reason=curve),)
    if len(curve) < _LEAST:
        reason = f"{len(curve)} losses were logged, and the levels need {_LEAST}. Log more often (logging_steps)."
        return (Measurement(NAME, None, "share of the fall", reason=reason),)
    return (_measured(run, curve),)


def _measured(run: Run, curve: LossCurve) -> Measurement:
    parts = levels(curve, _PARTS, _A_PART)
    best, end = min(parts, key=lambda part: part.value), levels(curve, _LATE_PARTS, _A_PART)[-1]
    # The noise of a loss goes with its level, hence logarithms; that of a blow-up would hide it, hence the later half.
    sigma = relative_noise(curve[len(curve) // 2 :], _ZERO)
    starts = (level(curve[:1]), level(curve[:_A_PART]), parts[0])
    start, above_start = _most_exceeded(starts, end, sigma)
    if above_start <= _CLEARLY:
        start = max(starts, key=lambda one: one.value)
    peak = max(parts[: max(1, len(parts) // 3)], key=lambda part: part.value)
    first, above_first = _most_exceeded(starts[:2], peak, sigma)
    fall = start.value - best.value
    left = _since(curve, best, end)
    details = {
        "start": start.value,
        "start_step": start.last,
        "best": best.value,
        "best_step": best.last,
        "end": end.value,
        "left_at": left,
        "first": first.value,
        "peak": peak.value,
        "peak_step": peak.last,
        "start_deviations": above_start,
        "best_deviations": _deviations(best, end, sigma),
        "peak_deviations": above_first,
    }
    places = train_step_places(run, [start.last, peak.last, best.last, left, end.last])
    value = (start.value - end.value) / fall if fall > 0 else math.nan
    source = f"logged losses of steps {curve[0][0]} to {end.last}, medians of {len(parts)} parts"
    return Measurement(NAME, value, "share of the fall", source, details=details, places=places)


def _most_exceeded(starts: Sequence[Level], later: Level, sigma: float) -> tuple[Level, float]:
    """The one of some levels that a later level is most surely above, and by how many deviations."""
    above = [_deviations(start, later, sigma) for start in starts]
    place = max(range(len(starts)), key=above.__getitem__)
    return starts[place], above[place]


def _deviations(lower: Level, higher: Level, sigma: float) -> float:
    """By how many times what chance does one level is above another."""
    rise = math.log(max(higher.value, _ZERO) / max(lower.value, _ZERO))
    return rise / max(uncertainty(sigma, lower, higher), _LEAST_CHANCE)


def _since(curve: Curve, best: Level, end: Level) -> int:
    """The first step behind the best level from which every loss but single ones is nearer to the end."""
    half = (best.value + end.value) / 2
    behind = [point for point in curve if point[0] > best.last] or [curve[-1]]
    # One in ten of the losses behind may fall back below the middle by chance.
    below = [place for place, (_, loss) in enumerate(behind) if loss < half]
    allowed = len(behind) // 10
    cut = below[-1 - allowed] + 1 if len(below) > allowed else 0
    return behind[min(cut, len(behind) - 1)][0]


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error when the loss ends above its start, has lost most of its fall, or never got over a blow-up."""
    (kept,) = measurements
    kind = _kind(kept, policy)
    if not kind:
        return []
    numbers, limit = kept.details, policy[_LIMIT[kind]]
    beyond = numbers[_DEVIATIONS[kind]]
    return [
        Finding(
            code="divergence",
            severity=Severity.ERROR,
            message=_message(kept, kind),
            evidence={**numbers, "loss_kept": kept.value, "threshold": limit.value},
            advice=_advice(numbers, kind),
            confidence=0.8 if kind == "blown_up" else 0.9,
            basis=f"{beyond:.0f} times what chance does to such medians; the threshold is {limit.standing}",
            caveat="data that change on the way, as in a curriculum, raise the loss with nothing wrong",
            places=kept.places,
        )
    ]


def _kind(kept: Measurement, policy: Policy) -> str:
    """Which kind of divergence it is; empty for none."""
    if not kept.details:
        return ""
    numbers, sure = kept.details, policy.limit("divergence.deviations")
    start, best, end = (float(numbers[name]) for name in ("start", "best", "end"))
    if end > start * (1 + policy.limit("divergence.above_start")) and numbers["start_deviations"] > sure:
        return "above_start"
    lost = 1 - float(kept.value) if isinstance(kept.value, float) and not math.isnan(kept.value) else 0.0
    above_best = end > best * (1 + policy.limit("divergence.above_best"))
    # The best of twenty parts is low by chance already.
    if (
        above_best
        and lost > policy.limit("divergence.lost")
        and numbers["best_deviations"] > policy.limit("divergence.best_deviations")
    ):
        return "lost"
    first = float(numbers["first"])
    burst = numbers["peak"] > first * (1 + policy.limit("divergence.peak")) and numbers["peak_deviations"] > sure
    return "blown_up" if burst and end > first * policy.limit("divergence.back") else ""


def _message(kept: Measurement, kind: str) -> str:
    numbers = kept.details
    if kind == "above_start":
        return (
            f"The training loss ends at {numbers['end']:.4g}, above the {numbers['start']:.4g} it started from "
            f"(step {numbers['start_step']}), and has stayed high since step {numbers['left_at']}."
        )
    if kind == "lost":
        return (
            f"The training loss rose from {numbers['best']:.4g} (step {numbers['best_step']}) to {numbers['end']:.4g} "
            f"and stayed there: {1 - float(kept.value or 0):.0%} of its fall is lost."
        )
    return (
        f"The training loss rose from {numbers['first']:.4g} to {numbers['peak']:.4g} by step {numbers['peak_step']} "
        f"and has come back to {numbers['end']:.4g} only."
    )


def _advice(numbers: Mapping[str, Any], kind: str) -> str:
    tries = "Try a lower learning rate, a longer warm-up or gradient clipping, one at a time."
    if kind == "blown_up" or numbers["best"] >= numbers["start"]:
        return tries
    return f"Use no checkpoint from after step {numbers['best_step']} without an evaluation. {tries}"
