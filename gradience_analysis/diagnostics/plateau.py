"""Plateau: did the last part of the run still bring anything?

**Measured**: `loss_levels`, the medians of up to twenty consecutive parts of the logged training loss, with the
held-out loss at each evaluation beside them.

**A finding** (info) is a run that has ended, and in whose last `plateau.share` of the steps neither of the two fell
by more than `plateau.improvement`, measured both against all that it had fallen before and against its own level. It
is a hint that fewer steps would have done, not a fault.

**Nothing is said** of a loss at or below `plateau.floor`, which has nowhere to go, of fewer than `plateau.parts`
parts, or where more is wrong: no learning, memorization and divergence have their own findings.

**It may be wrong**: a loss can stay where it is for long and then drop, and a run that was stopped on its plateau
does not show that. What does not move the loss can still move what the model is for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gradience_analysis.model import Finding, Measurement, Run
from gradience_analysis.policy import Policy
from gradience_analysis.series.levels import levels
from gradience_analysis.telemetry.losses import training_losses
from gradience_analysis.telemetry.places import train_step_places
from gradience_analysis.telemetry.signals import gap_course
from gradience_schema import Severity

CODES: Mapping[str, str] = {"plateau": "The loss stopped falling long before the run ended."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "loss_levels"
_PARTS = 20
_A_PART = 3


class Brought(NamedTuple):
    """What the last part of a curve brought.

    Attributes:
        before: Lowest value up to the cut.
        after: Lowest value behind it.
        of_fall: Fall behind the cut, as a share of the fall before it; negative for a rise.
        of_level: The same, as a share of the level at the cut.
    """

    before: float
    after: float
    of_fall: float
    of_level: float


def measure(run: Run) -> tuple[Measurement, ...]:
    """The levels of consecutive parts of the training loss, and the held-out loss at each evaluation."""
    curve = training_losses(run)
    if isinstance(curve, str):
        return (Measurement(NAME, None, "parts", reason=curve),)
    parts = levels(curve, _PARTS, _A_PART)
    course = gap_course(run)
    held_out = () if isinstance(course, str) else course.readings
    details = {
        "levels": [[part.first, part.last, part.value] for part in parts],
        "held_out": [[one.step, one.held_out] for one in held_out if one.step is not None],
        "ended": run.status is not None,
    }
    source = f"logged losses of steps {curve[0][0]} to {curve[-1][0]}, medians of consecutive parts"
    places = train_step_places(run, [part.last for part in parts])
    return (Measurement(NAME, len(parts), "parts", source, details=details, places=places),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An info when neither the training loss nor the held-out loss fell in the last part of the run."""
    (parts,) = measurements
    numbers = parts.details
    if not numbers or not numbers["ended"] or len(numbers["levels"]) < policy.limit("plateau.parts"):
        return []
    steps: list[list[float]] = numbers["levels"]
    last = steps[-1][1]
    cut = last - policy.limit("plateau.share") * (last - steps[0][0])
    train = _brought([(part[1], part[2]) for part in steps], cut)
    held_out = _brought(numbers["held_out"], cut)
    limit = policy["plateau.improvement"]
    if train is None or train.after <= policy.limit("plateau.floor") or train.before >= steps[0][2]:
        return []
    if any(max(one.of_fall, one.of_level) > limit.value for one in (train, held_out) if one is not None):
        return []
    since = max(part[1] for part in steps if part[1] <= cut)
    return [
        Finding(
            code="plateau",
            severity=Severity.INFO,
            message=(
                f"The loss has fallen by less than {limit.value:.0%} since step {since:,.0f} of {last:,.0f} "
                f"(training loss {train.before:.4g} before, {train.after:.4g} at best after)."
            ),
            evidence={"since_step": since, "training": train._asdict(), "threshold": limit.value}
            | ({} if held_out is None else {"held_out": held_out._asdict()}),
            advice="Fewer steps may do as well. Or try a lower learning rate from there on, or a higher rank.",
            confidence=0.6 if held_out is None else 0.7,
            basis=f"medians of {len(steps)} parts of the run; the threshold is {limit.standing}",
            caveat="a loss can stay where it is for long and then drop",
            places=tuple(place for place in parts.places if place.step == since),
        )
    ]


def _brought(points: Sequence[Sequence[float]], cut: float) -> Brought | None:
    """What lies behind the cut, against what lies before; None when either side is empty or the level is 0."""
    before = [value for at, value in points if at <= cut]
    after = [value for at, value in points if at > cut]
    if not before or not after or min(before) <= 0:
        return None
    level, fall = min(before), before[0] - min(before)
    gain = level - min(after)
    of_fall = gain / fall if fall > 0 else (1.0 if gain > 0 else 0.0)
    return Brought(level, min(after), of_fall, gain / level)
