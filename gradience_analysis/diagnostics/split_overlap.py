"""Split overlap: does the held-out split behave like the training data?

**Measured**: `held_out_excess`, the held-out perplexity over that of the training data, less 1, from losses as
exp(held-out loss - training loss) - 1: the median over the later half of the evaluations. The training loss is that
of split train where it was evaluated along the way, else the logged one. Beside it stand at how many evaluations both
losses are the same number, how many rows either split has, and how much worse a further split (test) is at the end.

**A finding** is one of three. A warning, when at `split_overlap.same` evaluations or more the loss of the held-out
split is that of split train, to six digits: the two hold the same rows, or one was evaluated under two names. An
info, when the held-out split has exactly as many rows as the training data and follows their loss within
`split_overlap.excess` after that has fallen by `split_overlap.fall`. And an info, when it follows the evaluated
training loss within `split_overlap.close` while a further split is worse by more than `split_overlap.further` (ratio
of perplexities).

**What cannot be told**: telemetry holds no rows. An overlap of a part of the rows, or of splits of different sizes,
looks like a model that generalizes well; `gradience check --data TRAIN --eval-data HELD_OUT` compares the rows
themselves.

**It may be wrong**: two splits can have the same number of rows by design, a further split can be another kind of
data, and a task without noise, learnt to the end, has the same loss on what was read and on what was not. Hence only
the first is a warning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gradience_analysis.model import Finding, Measurement, Run, plural
from gradience_analysis.policy import Policy
from gradience_analysis.series.robust import median
from gradience_analysis.telemetry.places import evaluation_places
from gradience_analysis.telemetry.signals import Gap, GapReading, gap_course
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "split_overlap_suspected": "The held-out split behaves as if the model had been trained on it.",
}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "held_out_excess"
_UNIT = "relative excess of the held-out perplexity"
_LEAST = 2
# Two sums of the same rows in different batches differ in the last digits of a float32.
_SAME = 1e-6
_CONFIDENCE = {"same": 0.9, "sized": 0.5, "further": 0.4}
_CAVEAT = {
    "same": "one split evaluated under two names looks the same",
    "sized": "two splits can be cut to the same size by design",
    "further": "the further split may be another kind of data, and a task without noise has no gap either",
}
_LIMIT = {"same": "split_overlap.same", "sized": "split_overlap.excess", "further": "split_overlap.further"}


def measure(run: Run) -> tuple[Measurement, ...]:
    """How much worse the model is on the held-out split, late in the run, than on its training data."""
    course = gap_course(run)
    if isinstance(course, str):
        return (Measurement(NAME, None, _UNIT, reason=course),)
    readings = [reading for reading in course.readings if reading.step is not None]
    if len(readings) < _LEAST:
        reason = f"{plural(len(readings), 'evaluation')} along the way cannot show a course. Evaluate more often."
        return (Measurement(NAME, None, _UNIT, reason=reason),)
    later = readings[len(readings) // 2 :]
    last = readings[-1]
    evaluated = course.train_source == "evaluated"
    details: dict[str, Any] = {
        "held_out_split": course.held_out_split,
        "train_source": course.train_source,
        "evaluations": len(readings),
        "same": sum(_same(one) for one in readings) if evaluated else 0,
        "held_out": last.held_out,
        "train": last.train,
        "train_at_first": readings[0].train,
        "rows_held_out": _rows(run, course),
        "rows_trained": None if run.config is None else run.config.training.num_train_examples,
        **_further(run, course),
    }
    value = median([_excess(one.held_out, one.train) for one in later])
    places = evaluation_places(run, course.held_out_split, [readings[0].step, last.step])
    source = (
        f"loss of split {course.held_out_split} against the {course.train_source} training loss, {len(later)} times"
    )
    return (Measurement(NAME, value, _UNIT, source, details=details, places=places),)


def _same(reading: GapReading) -> bool:
    # Two losses of 0.0 are what is left where no label counts; they say nothing about rows.
    return reading.train > 0 and abs(reading.held_out - reading.train) <= _SAME * reading.train


def _excess(held_out: float, train: float) -> float:
    # Beyond a hundred nats it is beyond all limits, and its exponential soon beyond a double.
    return math.expm1(min(held_out - train, 100.0))


def _rows(run: Run, course: Gap) -> int | None:
    count = run.evaluations[course.held_out_split][-1].number("n")
    return int(count) if count is not None and math.isfinite(count) else None


def _further(run: Run, course: Gap) -> dict[str, Any]:
    """Another held-out split at its last evaluation: its name, its loss, and its perplexity over that of train."""
    train = course.last.train
    for split, points in run.evaluations.items():
        loss = points[-1].number("loss")
        if split not in {"train", course.held_out_split} and loss is not None and math.isfinite(loss):
            return {"further_split": split, "further_loss": loss, "further_ratio": 1 + _excess(loss, train)}
    return {"further_split": None, "further_loss": None, "further_ratio": None}


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning when the two losses are the same number again and again, an info when the split only follows."""
    (excess,) = measurements
    kind = _kind(excess, policy)
    if not kind:
        return []
    numbers, limit = excess.details, policy[_LIMIT[kind]]
    return [
        Finding(
            code="split_overlap_suspected",
            severity=Severity.WARNING if kind == "same" else Severity.INFO,
            message=_message(numbers, kind),
            evidence={**numbers, "held_out_excess": excess.value, "threshold": limit.value},
            advice=(
                "Compare the rows of the splits (`gradience check --data TRAIN --eval-data HELD_OUT`), "
                "and judge the run by a split that shares none."
            ),
            confidence=_CONFIDENCE[kind],
            basis=f"{plural(numbers['evaluations'], 'evaluation')}; the threshold is {limit.standing}",
            caveat=_CAVEAT[kind],
            places=excess.places,
        )
    ]


def _kind(excess: Measurement, policy: Policy) -> str:
    """What speaks for an overlap: the losses, the sizes, or a further split; empty when nothing does."""
    if not isinstance(excess.value, float):
        return ""
    numbers, several = excess.details, policy.limit("split_overlap.same")
    if numbers["same"] >= several:
        return "same"
    if numbers["evaluations"] < several:
        return ""
    fallen = numbers["train"] <= (1 - policy.limit("split_overlap.fall")) * numbers["train_at_first"]
    as_many = numbers["rows_held_out"] is not None and numbers["rows_held_out"] == numbers["rows_trained"]
    if as_many and fallen and excess.value < policy.limit("split_overlap.excess"):
        return "sized"
    ratio = numbers["further_ratio"]
    apart = ratio is not None and ratio > policy.limit("split_overlap.further")
    close = numbers["train_source"] == "evaluated" and excess.value < policy.limit("split_overlap.close")
    return "further" if apart and close and fallen else ""


def _message(numbers: Mapping[str, Any], kind: str) -> str:
    split = numbers["held_out_split"]
    if kind == "same":
        times = f"at {numbers['same']} of {plural(numbers['evaluations'], 'evaluation')}"
        return f"The loss of split {split} is that of split train, digit for digit, {times}."
    follows = f"follows the training loss ({numbers['held_out']:.4g} against {numbers['train']:.4g})"
    if kind == "sized":
        return f"Split {split} has as many rows as the training data, {numbers['rows_held_out']:,}, and {follows}."
    return f"Split {split} {follows}, and split {numbers['further_split']} does not ({numbers['further_loss']:.4g})."
