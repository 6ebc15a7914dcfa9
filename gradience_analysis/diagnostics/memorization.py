"""Memorization: does the held-out loss rise while the training loss still falls?

**Measured**: `held_out_rise`, the held-out loss at the last evaluation over the one at the best, less 1. The held-out
split is the one that was evaluated most often. Beside it stand how often it rose in a row behind the best, the median
rise of the evaluations behind the best, and the training loss at both: that of split train where it was evaluated
along the way, else the mean of the last five logged losses.

**A finding** (warning) needs a training loss that is not higher at the end than at the best evaluation, and at least
`memorization.evaluations` evaluations behind the best. Then either the held-out loss rose as often in a row and ends
more than `memorization.least_rise` above its best, or it ends more than `memorization.rise` above it, with most
evaluations behind the best at least half as far. It names the best evaluation: the checkpoint to take. A large
generalization gap is the same seen from elsewhere, and is not listed beside it.

**Nothing is said** with fewer than three evaluations of one split, or while the held-out loss is still at its best: a
model can be far better on what it has seen and still improve on what it has not.

**It may be wrong** for a classifier: its loss can rise because it is more certain of its few errors while its
accuracy still improves. Where both are logged, the finding says so. Small data and wrong labels look the same in
these curves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from gradience_analysis.model import Finding, Measurement, Run, plural
from gradience_analysis.policy import Policy
from gradience_analysis.series.robust import median
from gradience_analysis.telemetry.places import evaluation_places
from gradience_analysis.telemetry.signals import Gap, GapReading, gap_course
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "memorization": "The held-out loss rises from its best evaluation on while the training loss falls.",
}
COVERS: Mapping[str, frozenset[str]] = {"memorization": frozenset({"generalization_gap", "plateau"})}
NAME = "held_out_rise"
_UNIT = "relative rise of the held-out loss"
_LEAST = 3
_CONFIDENCE = {"evaluated": 0.9, "logged": 0.75}


def measure(run: Run) -> tuple[Measurement, ...]:
    """The rise of the held-out loss from its best evaluation to the last, with the training loss at both."""
    course = gap_course(run)
    if isinstance(course, str):
        return (Measurement(NAME, None, _UNIT, reason=course),)
    readings = [reading for reading in course.readings if reading.step is not None]
    if len(readings) < _LEAST:
        reason = (
            f"{plural(len(readings), 'evaluation')} of split {course.held_out_split} cannot show a rise. "
            f"Evaluate at least {_LEAST} times (eval_steps)."
        )
        return (Measurement(NAME, None, _UNIT, reason=reason),)
    place = min(range(len(readings)), key=lambda one: readings[one].held_out)
    best, last = readings[place], readings[-1]
    if best.held_out <= 0:
        reason = "the held-out loss is not above 0 at its best, so that no relative rise from there is defined."
        return (Measurement(NAME, None, _UNIT, reason=reason),)
    details = _details(run, course, readings, place)
    source = f"loss of split {course.held_out_split} at {plural(len(readings), 'evaluation')}"
    places = evaluation_places(run, course.held_out_split, [best.step, last.step])
    return (Measurement(NAME, last.held_out / best.held_out - 1, _UNIT, source, details=details, places=places),)


def _details(run: Run, course: Gap, readings: Sequence[GapReading], place: int) -> dict[str, Any]:
    best, last = readings[place], readings[-1]
    held_out = [reading.held_out for reading in readings]
    return {
        "held_out_split": course.held_out_split,
        "train_source": course.train_source,
        "evaluations": len(readings),
        "evaluations_after_best": len(readings) - 1 - place,
        "rises_in_a_row": longest_row(held_out[place:]),
        "best_step": best.step,
        "last_step": last.step,
        "held_out_at_best": best.held_out,
        "held_out_at_last": last.held_out,
        "train_at_best": best.train,
        "train_at_last": last.train,
        "accuracy_at_best": _accuracy(run, course.held_out_split, best.step),
        "accuracy_at_last": _accuracy(run, course.held_out_split, last.step),
        "typical_rise": median([value / best.held_out - 1 for value in held_out[place + 1 :] or [best.held_out]]),
    }


def longest_row(values: Sequence[float]) -> int:
    """How often the values rise in a row, at most; 0 without a rise."""
    longest = row = 0
    for before, after in pairwise(values):
        row = row + 1 if after > before else 0
        longest = max(longest, row)
    return longest


def _accuracy(run: Run, split: str, step: int | None) -> float | None:
    found = [point.number("accuracy") for point in run.evaluations[split] if point.step == step]
    return None if not found or found[-1] is None or not math.isfinite(found[-1]) else float(found[-1])


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning when the held-out loss has risen in a row, or by much, and the training loss has not."""
    (rise,) = measurements
    if not isinstance(rise.value, float):
        return []
    numbers = rise.details
    least = policy.limit("memorization.evaluations")
    if numbers["evaluations_after_best"] < least or numbers["train_at_last"] > numbers["train_at_best"]:
        return []
    row = numbers["rises_in_a_row"] >= least
    # One evaluation that is far off says nothing; most of those behind the best have to be above it.
    far = min(rise.value, 2 * numbers["typical_rise"]) > policy.limit("memorization.rise")
    if not far and not (row and rise.value > policy.limit("memorization.least_rise")):
        return []
    limit = policy["memorization.evaluations" if row else "memorization.rise"]
    return [
        Finding(
            code="memorization",
            rule="T06",
            severity=Severity.WARNING,
            message=_message(rise),
            evidence={**numbers, "held_out_rise": rise.value, "threshold": limit.value},
            advice=(
                f"Take the checkpoint of step {numbers['best_step']}, or the nearest one that was kept. "
                "Try to stop there, a lower rank, dropout, or more data; look at the labels for errors."
            ),
            confidence=_CONFIDENCE[numbers["train_source"]],
            basis=f"{_basis(numbers)}; the threshold is {limit.standing}",
            caveat=_caveat(numbers),
            places=rise.places,
        )
    ]


def _message(rise: Measurement) -> str:
    numbers = rise.details
    return (
        f"The {numbers['held_out_split']} loss rose from {numbers['held_out_at_best']:.4g} at step "
        f"{numbers['best_step']} to {numbers['held_out_at_last']:.4g} at step {numbers['last_step']}, while the "
        f"training loss fell from {numbers['train_at_best']:.4g} to {numbers['train_at_last']:.4g}."
    )


def _basis(numbers: Mapping[str, Any]) -> str:
    train = (
        "split train was evaluated" if numbers["train_source"] == "evaluated" else "the training loss is the logged one"
    )
    return f"{plural(numbers['evaluations_after_best'], 'evaluation')} after the best; {train}"


def _caveat(numbers: Mapping[str, Any]) -> str:
    best, last = numbers["accuracy_at_best"], numbers["accuracy_at_last"]
    if best is None or last is None or last <= best:
        return ""
    return (
        f"the {numbers['held_out_split']} accuracy rose from {best:.3g} to {last:.3g} meanwhile: "
        "where accuracy is what counts, the later checkpoint may be the better one"
    )
