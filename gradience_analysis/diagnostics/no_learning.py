"""No learning: has the loss come down at all?

**Measured**: `loss_ratio`, the level of the training loss at the end over the one at the start. The start is the
median of the first twentieth of the losses, or of the first three when these are clearly higher: a run can learn most
of what it learns within a few steps. The end is the median of the last three tenths, or of the last tenth when that
is clearly lower: a loss can stay where it is for long and then drop. *Clearly* is three times what chance would do.
Beside it stand the same ratio for the held-out loss (the best evaluation over the first), whether its evaluations
were all the same, and the share of the declared steps that have been made.

**A finding** (warning): the ratio of the training loss is not below `no_learning.ratio` by more than
`no_learning.deviations` times what chance would do, that of the held-out loss is not below `no_learning.held_out` (an
evaluation has far less noise than the log of a batch), the level at the end is above `no_learning.floor`, at least
`no_learning.losses` were logged, and the run has made at least `no_learning.progress` of its declared steps. When all
evaluations of a split gave the same loss, the weights have not changed, and the finding says so.

**Nothing is said** of a loss that ends above its start: that is divergence. With fewer than six logged losses, with a
loss that takes negative values or stands beside a reward (reinforcement learning), it is not measured.

**It may be wrong** for a model that knew the task before its first step: a loss that is low at once and stays there
looks like one that cannot fall. Compare with an evaluation of the base model. A learning rate far too low, adapters
that are not trained and labels without any relation to the text all look the same in this curve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gradience_analysis.model import Change, Finding, Measurement, Run
from gradience_analysis.policy import Policy
from gradience_analysis.series.levels import Level, level, noise, uncertainty
from gradience_analysis.telemetry.losses import LossCurve, training_losses
from gradience_analysis.telemetry.places import train_step_places
from gradience_analysis.telemetry.signals import gap_course
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "no_learning": "The loss at the end is hardly below that at the start.",
}
COVERS: Mapping[str, frozenset[str]] = {"no_learning": frozenset({"plateau"})}
NAME = "loss_ratio"
_UNIT = "ratio of the loss at the end to that at the start"
_START, _END, _LATE = 0.05, 0.3, 0.1
_FEW = 3
_CLEARLY = 3.0
_UNCHANGED = "Look at which parameters are trainable, and at whether the optimizer was given them."
_TRIES = "Look at the learning rate, at which modules are trained, and at whether the labels belong to the texts."
_SAME = 1e-6


def measure(run: Run) -> tuple[Measurement, ...]:
    """The level of the training loss at the end over that at the start."""
    curve = training_losses(run)
    if isinstance(curve, str):
        return (Measurement(NAME, None, _UNIT, reason=curve),)
    if len(curve) < 2 * _FEW:
        reason = (
            f"the levels need {2 * _FEW} logged losses, and there are {len(curve)}. Log more often (logging_steps)."
        )
        return (Measurement(NAME, None, _UNIT, reason=reason),)
    return (_ratio(run, curve),)


def _ratio(run: Run, curve: LossCurve) -> Measurement:
    sigma = noise(curve)
    start = _clearer(level(curve[: _size(curve, _START)]), level(curve[:_FEW]), sigma, higher=True)
    end = _clearer(level(curve[-_size(curve, _END) :]), level(curve[-_size(curve, _LATE) :]), sigma, higher=False)
    details = {
        "start": start.value,
        "start_steps": [start.first, start.last],
        "end": end.value,
        "end_steps": [end.first, end.last],
        "losses": len(curve),
        "progress": _progress(run),
        "learning_rate": _peak_rate(run),
        "noise": sigma / start.value if start.value > 0 else None,
        "chance": uncertainty(sigma, start, end) / start.value if start.value > 0 else None,
        **_held_out(run),
    }
    source = f"logged losses of steps {start.first} to {start.last} and {end.first} to {end.last}, medians"
    if start.value <= 0:
        reason = "the loss starts at 0, so that it has nothing to fall from. Log the loss before any filter."
        return Measurement(NAME, None, _UNIT, source, reason, details)
    places = train_step_places(run, [start.last, end.first])
    return Measurement(NAME, end.value / start.value, _UNIT, source, details=details, places=places)


def _size(curve: LossCurve, share: float) -> int:
    return max(_FEW, round(share * len(curve)))


def _clearer(usual: Level, other: Level, sigma: float, *, higher: bool) -> Level:
    """The other level when it is clearly higher (lower) than the usual one, else the usual one."""
    beyond = (other.value - usual.value) if higher else (usual.value - other.value)
    return other if beyond > _CLEARLY * uncertainty(sigma, usual, other) else usual


def _progress(run: Run) -> float | None:
    """Share of the declared steps that have been made; 1 for a run that has ended, None when nothing tells."""
    if run.status is not None:
        return 1.0
    declared = None if run.config is None else run.config.training.max_steps
    return None if not declared or declared <= 0 or run.last_step is None else run.last_step / declared


def _peak_rate(run: Run) -> float | None:
    return max((rate for _, rate in run.series("lr") if math.isfinite(rate)), default=None)


def _held_out(run: Run) -> dict[str, Any]:
    """The best over the first held-out loss, and whether all of them are the same."""
    course = gap_course(run)
    if isinstance(course, str) or len(course.readings) < 2 or course.readings[0].held_out <= 0:
        return {"held_out_split": None, "held_out_ratio": None, "held_out_constant": None}
    values = [reading.held_out for reading in course.readings]
    return {
        "held_out_split": course.held_out_split,
        "held_out_ratio": min(values) / values[0],
        "held_out_constant": len(values) >= _FEW and max(values) - min(values) <= _SAME * max(values),
    }


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning when neither the training loss nor the held-out loss has come down."""
    (ratio,) = measurements
    if not isinstance(ratio.value, float):
        return []
    numbers, limit = ratio.details, policy["no_learning.ratio"]
    held_out, progress = numbers["held_out_ratio"], numbers["progress"]
    if (
        ratio.value < limit.value - policy.limit("no_learning.deviations") * numbers["chance"]
        or (held_out is not None and held_out < policy.limit("no_learning.held_out"))
        or numbers["end"] <= policy.limit("no_learning.floor")
        or numbers["losses"] < policy.limit("no_learning.losses")
        or (progress is not None and progress < policy.limit("no_learning.progress"))
    ):
        return []
    constant = bool(numbers["held_out_constant"])
    return [
        Finding(
            code="no_learning",
            rule="T05",
            severity=Severity.WARNING,
            message=_message(ratio, constant=constant),
            evidence={**numbers, "loss_ratio": ratio.value, "threshold": limit.value},
            advice=_UNCHANGED if constant else _TRIES,
            confidence=0.95 if constant else 0.8 if held_out is not None else 0.6,
            basis=_basis(numbers, limit.standing),
            caveat=(
                ""
                if constant
                else "a model that knew the task before its first step shows the same curve: evaluate the base model"
            ),
            places=ratio.places,
            changes=() if constant else _changes(numbers),
        )
    ]


def _message(ratio: Measurement, *, constant: bool) -> str:
    numbers = ratio.details
    went = f"The training loss went from {numbers['start']:.4g} to {numbers['end']:.4g}"
    split, held_out = numbers["held_out_split"], numbers["held_out_ratio"]
    if constant:
        return f"{went}, and every evaluation of split {split} gave the same loss: no weight changed."
    beside = "" if held_out is None else f" and the {split} loss fell by {1 - held_out:.1%} at best"
    change = f"{float(ratio.value or 0) - 1:+.1%}, where single logs differ by {numbers['noise']:.1%}"
    return f"{went} ({change}){beside}: hardly anything was learned."


def _basis(numbers: Mapping[str, Any], standing: str) -> str:
    beside = "no held-out evaluations" if numbers["held_out_ratio"] is None else "the held-out loss agrees"
    return f"medians of the logged losses; {beside}; the threshold is {standing}"


def _changes(numbers: Mapping[str, Any]) -> tuple[Change, ...]:
    rate = numbers["learning_rate"]
    if rate is None or rate <= 0:
        return ()
    why = "a rate too low for its number of steps is the commonest cause, and the quickest to try"
    return (Change("optimizer.lr", f"{rate:.3g}", f"{3 * rate:.3g} to {10 * rate:.3g}", why),)
