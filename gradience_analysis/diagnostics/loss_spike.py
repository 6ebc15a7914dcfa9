"""Loss spike: does the training loss jump far above its recent course?

**Measured**: `loss_rises`, the largest rises of the logged loss above the median of the losses just before, each with
that median, the median absolute deviation (MAD) around it, and the first step at which the loss is back: it and one
of the two after it are nearer to the old level than to the peak. The window is a fifth of the log, between 12 and 50
losses: one as long as the fall of a short run would be as wide as that fall. Rises that belong together are one. The
value is the largest rise in MADs; a MAD counts as at least a hundredth of the median. Beside it stands what is usual
in this run: the deviation that as many rises exceed as one in forty losses (at least two, which may be spikes
themselves).

**A finding** (warning) is a rise that is more than `loss_spike.deviations` MADs, more than `loss_spike.usual` times
what is usual in this run, more than `loss_spike.rise` of the median, and more than `loss_spike.nats` or, of a loss
that starts low, `loss_spike.of_start` times the level that the run started from, after at least `loss_spike.least`
losses. All must hold: the loss of small batches has a long upper tail, and that of a classifier that has nearly
converged jumps with each example that it gets wrong.

**Nothing is said** of the last loss of all alone, as the next will tell what it means, nor of a rise that stays: that
is divergence, which hides the spikes before it.

**It may be wrong** with batches of a few examples, where a single odd example is a spike: the remedy is then to look
at that example. A spike between two logs (`logging_steps`) is only seen in their mean, or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gradience_analysis.model import Finding, Measurement, Run, plural
from gradience_analysis.policy import Policy
from gradience_analysis.series.robust import Standing, median, risen
from gradience_analysis.telemetry.losses import LossCurve, training_losses
from gradience_analysis.telemetry.places import train_step_places
from gradience_schema import Severity

CODES: Mapping[str, str] = {"loss_spike": "The training loss jumps far above its recent course and comes back."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "loss_rises"
_UNIT = "MADs"
_WINDOW, _SHORTEST = 50, 12
_ABOVE = 0.9
_LEAST_SPREAD = 0.01
_START = 5
_LARGEST = 40
_SHARE, _FEW = 0.025, 2
_BACK = 3
_SHOWN = 5


def measure(run: Run) -> tuple[Measurement, ...]:
    """The largest rises of the logged loss above its trailing median."""
    curve = training_losses(run)
    if isinstance(curve, str):
        return (Measurement(NAME, None, _UNIT, reason=curve),)
    if len(curve) <= _START:
        reason = f"{plural(len(curve), 'logged value')} of the loss cannot show a jump. Log more often (logging_steps)."
        return (Measurement(NAME, None, _UNIT, reason=reason),)
    losses = [loss for _, loss in curve]
    # A window as long as the fall of a short run is as wide as that fall.
    window = max(_SHORTEST, min(_WINDOW, len(losses) // 5))
    above = [one for one in risen(losses, window, _ABOVE) if one.seen >= _START]
    scores = [_deviations(losses[one.place], one) for one in above]
    rises = _rises(curve, above, scores)
    details: dict[str, Any] = {
        "rises": rises,
        "usual": _usual(scores, rises, len(losses)),
        "start": median(losses[:_START]),
        "window": window,
    }
    source = f"{len(curve)} logged losses against the median of up to {window} before"
    largest = max(scores, default=0.0)
    places = train_step_places(run, [rise["step"] for rise in rises])
    return (Measurement(NAME, largest, _UNIT, source, details=details, places=places),)


def _deviations(value: float, one: Standing) -> float:
    spread = max(one.mad, _LEAST_SPREAD * one.median)
    # A window of zeros has no spread at all, and its rise is judged by the level of the start.
    return (value - one.median) / spread if spread > 0 else math.inf


def _usual(scores: Sequence[float], rises: Sequence[Mapping[str, Any]], losses: int) -> float:
    """The deviation that as many rises exceed as one in forty losses, and at least two: these may be spikes.

    In a long log single losses count for rises, of which only the largest are known.
    """
    exceeding = max(_FEW, round(_SHARE * losses))
    heights = scores if exceeding >= _LARGEST // 2 else [_height(rise) for rise in rises]
    return sorted(heights, reverse=True)[exceeding] if exceeding < len(heights) else 0.0


def _height(rise: Mapping[str, Any]) -> float:
    return math.inf if rise["deviations"] is None else float(rise["deviations"])


def _rises(curve: LossCurve, above: Sequence[Standing], scores: Sequence[float]) -> list[dict[str, Any]]:
    """The largest rises in order of their steps; what lies between a rise and its return belongs to it."""
    largest = sorted(range(len(above)), key=scores.__getitem__, reverse=True)[:_LARGEST]
    losses = [loss for _, loss in curve]
    rises: list[dict[str, Any]] = []
    until = -1
    for one in sorted(largest):
        standing, score = above[one], scores[one] if math.isfinite(scores[one]) else None
        if standing.place < until:
            highest = rises[-1]["deviations"]
            rises[-1]["deviations"] = None if score is None or highest is None else max(score, highest)
            continue
        peak, back = _return(losses, standing)
        until = len(curve) if back is None else back
        rises.append(
            {
                "step": curve[standing.place][0],
                "peak": peak,
                "median": standing.median,
                "mad": standing.mad,
                "deviations": score,
                "losses_before": standing.place,
                "losses_behind": len(curve) - 1 - standing.place,
                "back_step": None if back is None else curve[back][0],
            }
        )
    return rises


def _return(losses: Sequence[float], standing: Standing) -> tuple[float, int | None]:
    """The highest loss of a rise, and the place at which the loss is back; None where it never is."""
    peak = losses[standing.place]
    for place in range(standing.place + 1, len(losses)):
        middle = (standing.median + peak) / 2
        if losses[place] <= middle:
            following = losses[place + 1 : place + _BACK]
            if not following or min(following) <= middle:
                return peak, place
        peak = max(peak, losses[place])
    return peak, None


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """One warning for all spikes of the run."""
    (rises,) = measurements
    if not rises.details:
        return []
    found = [
        (rise, place)
        for rise, place in zip(rises.details["rises"], rises.places, strict=True)
        if _is_spike(rise, rises.details, policy)
    ]
    if not found:
        return []
    limit = policy["loss_spike.deviations"]
    spikes = [rise for rise, _ in found]
    return [
        Finding(
            code="loss_spike",
            rule="T04",
            severity=Severity.WARNING,
            message=_message(spikes),
            evidence={
                "spikes": spikes,
                "count": len(spikes),
                "usual": rises.details["usual"],
                "threshold": limit.value,
            },
            advice=(
                f"Look at the batch of step {spikes[0]['step']} and at the gradient norm there. "
                "Try gradient clipping or a lower learning rate if it happens again."
            ),
            confidence=0.8,
            basis=f"medians and MADs of the {rises.details['window']} losses before; the threshold is {limit.standing}",
            caveat="one odd example in a batch of a few raises its loss as well",
            places=tuple(place for _, place in found[:_SHOWN]),
        )
    ]


def _is_spike(rise: Mapping[str, Any], numbers: Mapping[str, Any], policy: Policy) -> bool:
    height, deviations = rise["peak"] - rise["median"], rise["deviations"]
    least = max(policy.limit("loss_spike.deviations"), policy.limit("loss_spike.usual") * numbers["usual"])
    return (
        (deviations is None or deviations > least)
        and height > policy.limit("loss_spike.rise") * rise["median"]
        and height > min(policy.limit("loss_spike.nats"), policy.limit("loss_spike.of_start") * numbers["start"])
        and rise["losses_before"] >= policy.limit("loss_spike.least")
        # What one last loss means, the next will tell.
        and (rise["back_step"] is not None or rise["losses_behind"] > 0)
    )


def _message(spikes: Sequence[Mapping[str, Any]]) -> str:
    first = max(spikes, key=lambda spike: spike["peak"] - spike["median"])
    at = f"at step {first['step']} from {first['median']:.4g} to {first['peak']:.4g}"
    back = "has not come back" if first["back_step"] is None else f"was back at step {first['back_step']}"
    if len(spikes) == 1:
        return f"The training loss jumped {at} and {back}."
    return f"The training loss jumped {plural(len(spikes), 'time')}, most {at} ({back})."
