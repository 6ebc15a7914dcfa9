"""Quantities taken straight from a run's curves: summaries, pace, and the generalization gap."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal, cast

from gradience_analysis.model import EvalPoint, Run

# A logged training loss is already a mean over the steps since the last log; five of them even out the batches
# and still belong to the time of the evaluation.
LOGGED_WINDOW = 5
_LOWER = frozenset({"loss", "ppl", "perplexity", "wer", "cer", "mse", "rmse", "mae", "nll", "bpc"})
_HIGHER = frozenset(
    {
        *("accuracy", "acc", "f1", "precision", "recall", "exact_match", "em", "auc", "roc_auc", "bleu", "meteor"),
        *("rouge1", "rouge2", "rougeL", "rougeLsum", "matthews_correlation", "pearson", "spearmanr"),
        *("mean_token_accuracy", "token_accuracy", "pass@1", "answer_accuracy", "chrf"),
        *("reward", "rewards/accuracies", "rewards/margins"),
    }
)
_NOT_LM_METRICS = frozenset({"accuracy", "f1", "precision", "recall", "auc", "roc_auc", "mse", "rmse", "mae"})
_VALUE = itemgetter(1)
_NO_HELD_OUT = "no held-out evaluation was logged. Evaluate a split val or test, with its loss."
GapKind = Literal["ppl_ratio", "exp_loss_difference"]
TrainSource = Literal["evaluated", "logged"]
_Valued = tuple[int | None, float]


def lower_is_better(metric: str) -> bool | None:
    """Direction of a metric by its name; None when the name does not tell."""
    if metric in _LOWER or metric.endswith("_loss"):
        return True
    return False if metric in _HIGHER or metric.endswith("_accuracy") else None


@dataclass(frozen=True, slots=True)
class Summary:
    """A curve in four points (step, value); steps are None where a record names none.

    Attributes:
        first: The first value.
        best: The best finite value by the metric's direction; None when that is not known or nothing is finite.
        peak: The largest finite value; None when nothing is finite.
        last: The last value.
        count: Number of values.
        points: Every value against its step, in order; without those that name no step.
    """

    first: tuple[int | None, float]
    best: tuple[int | None, float] | None
    peak: tuple[int | None, float] | None
    last: tuple[int | None, float]
    count: int
    points: tuple[tuple[float, float], ...]


def summarize(values: Sequence[tuple[int | None, float]], metric: str) -> Summary | None:
    """First, best, largest and last value of a curve (the first of equals); None for an empty one."""
    if not values:
        return None
    finite = [pair for pair in values if math.isfinite(pair[1])]
    lower = lower_is_better(metric)
    peak = max(finite, key=_VALUE) if finite else None
    best = None if lower is None or not finite else min(finite, key=_VALUE) if lower else peak
    points = tuple(cast("tuple[int, float]", pair) for pair in values if pair[0] is not None)
    return Summary(values[0], best, peak, values[-1], len(values), points)


def summarize_evaluations(points: Sequence[EvalPoint], metric: str) -> Summary | None:
    """The same for one metric of the evaluations of one split; None when it is never a number."""
    values = [(point.step, float(value)) for point in points if (value := point.number(metric)) is not None]
    return summarize(values, metric)


def steps_per_second(run: Run) -> float | None:
    """Optimizer steps per second between logged steps, evaluations and saving included.

    Formula: sum over segments of (last - first logged step), over the sum of the seconds between them.
    None when no segment has two logged steps at different times, or the records have no times.
    """
    steps = seconds = 0.0
    for segment in run.segments:
        if not segment.timed:
            return None
        logged = [event for event in segment.events if event.event == "train_step" and event.step is not None]
        if len(logged) > 1:
            steps += (logged[-1].step or 0) - (logged[0].step or 0)
            seconds += logged[-1].ts - logged[0].ts
    return steps / seconds if seconds > 0 and steps > 0 else None


@dataclass(frozen=True, slots=True)
class GapReading:
    """The gap at one evaluation.

    Attributes:
        step: Step of the held-out evaluation, or None when it names none.
        ratio: Perplexity ratio, or exp of the loss difference; infinity beyond the range of a double.
        held_out: The held-out number (perplexity or loss).
        train: The training number it is set against.
        train_step: Step, or first and last step, that the training number belongs to.
    """

    step: int | None
    ratio: float
    held_out: float
    train: float
    train_step: tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class Gap:
    """How much worse a run is on held-out data than on what it trained on.

    Attributes:
        kind: `ppl_ratio` (perplexities were logged) or `exp_loss_difference`.
        held_out_split: `test`, `val`, or another name.
        train_source: `evaluated` (an evaluation of split train) or `logged` (the loss of train_step records).
        language_model: Whether the run logs perplexity; False when its metrics are those of another task;
            None when nothing tells.
        last: At the last evaluation.
        best: At the evaluation with the best held-out number.
        readings: At every evaluation of that split that has its numbers, in order; at least one.
    """

    kind: GapKind
    held_out_split: str
    train_source: TrainSource
    language_model: bool | None
    last: GapReading
    best: GapReading
    readings: tuple[GapReading, ...]


def generalization_gap(run: Run) -> Gap | str:
    """The gap of a run, from the best numbers it has.

    Formula: held-out ppl / train ppl; without perplexities exp(held-out loss - train loss), which is the same
    for a language model. An evaluation of the train split is preferred to the logged training loss, which is
    measured with dropout and on weights that still moved; test is preferred to val for perplexities.
    Range: above 0; 1 means no gap.

    Returns:
        The gap, or a sentence that says why there is none and what to log.
    """
    evaluations = run.evaluations
    held_out = [split for split in ("test", "val") if split in evaluations]
    held_out += [split for split in evaluations if split not in {"train", "test", "val"}]
    if not held_out:
        return _NO_HELD_OUT
    for split in held_out:
        readings = _evaluated(_values(evaluations[split], _ppl), _values(evaluations.get("train", ()), _ppl), _ratio)
        if readings:
            return _gap(run, "ppl_ratio", split, "evaluated", readings)
    by_loss = sorted(held_out, key=lambda split: split != "val")
    for split in by_loss:
        readings = _evaluated(_values(evaluations[split], _loss), _values(evaluations.get("train", ()), _loss), _exp)
        if readings:
            return _gap(run, "exp_loss_difference", split, "evaluated", readings)
    for split in by_loss:
        readings = _logged(_values(evaluations[split], _loss), run)
        if readings:
            return _gap(run, "exp_loss_difference", split, "logged", readings)
    return _why_not(run, by_loss[0])


def gap_course(run: Run) -> Gap | str:
    """The gap along the run: from losses, on the held-out split that was evaluated most often (val of equals).

    A test split is often evaluated once, at the end, and then says nothing about when a gap began.
    Formula: exp(held-out loss - train loss), so that the numbers of its readings are losses in every case.

    Returns:
        The gap, or a sentence that says why there is none and what to log.
    """
    evaluations = run.evaluations
    held_out = [split for split in evaluations if split != "train"]
    if not held_out:
        return _NO_HELD_OUT
    known = {split: _values(evaluations[split], _loss_or_log_ppl) for split in held_out}
    split = min(held_out, key=lambda split: (-len(known[split]), split != "val"))
    train = _values(evaluations.get("train", ()), _loss_or_log_ppl)
    evaluated = _evaluated(known[split], train, _exp)
    # One evaluation of split train, at the end, says nothing about the way there.
    logged = [] if len(train) > 1 else _logged(known[split], run)
    if logged:
        return _gap(run, "exp_loss_difference", split, "logged", logged)
    readings = evaluated or _logged(known[split], run)
    source: TrainSource = "evaluated" if evaluated else "logged"
    return _gap(run, "exp_loss_difference", split, source, readings) if readings else _why_not(run, split)


def is_language_model(run: Run) -> bool | None:
    """True when perplexity is logged, False when the metrics are those of another task, None when nothing tells."""
    names = {name for points in run.evaluations.values() for point in points for name in point.metrics}
    if "ppl" in names or "perplexity" in names:
        return True
    return False if names & _NOT_LM_METRICS else None


def _gap(run: Run, kind: GapKind, split: str, source: TrainSource, readings: Sequence[GapReading]) -> Gap:
    best = min(readings, key=lambda reading: reading.held_out)
    return Gap(kind, split, source, is_language_model(run), readings[-1], best, tuple(readings))


def _evaluated(
    held_out: Sequence[_Valued], train: Sequence[_Valued], gap: Callable[[float, float], float | None]
) -> list[GapReading]:
    """Each held-out evaluation against the latest train evaluation at or before its step (else the first)."""
    before = _CountBefore([step for step, _ in train])
    readings: list[GapReading] = []
    for step, value in held_out if train else ():
        at, train_value = train[max(0, before(step) - 1)]
        ratio = gap(value, train_value)
        if ratio is not None:
            readings.append(GapReading(step, ratio, value, train_value, (at, at)))
    return readings


def _logged(held_out: Sequence[_Valued], run: Run) -> list[GapReading]:
    losses = [(step, loss) for step, loss in run.series("loss") if math.isfinite(loss)]
    before = _CountBefore([step for step, _ in losses])
    readings: list[GapReading] = []
    for step, value in held_out:
        stop = before(step)
        window = losses[max(0, stop - LOGGED_WINDOW) : stop]
        if window:
            train = math.fsum(loss for _, loss in window) / len(window)
            readings.append(GapReading(step, _exp(value, train), value, train, (window[0][0], window[-1][0])))
    return readings


class _CountBefore:
    """How many of some steps, in the order of their records, come before the end of a given step.

    A record that names no step counts as being there from the first.
    """

    def __init__(self, steps: Sequence[int | None]) -> None:
        # The highest step so far is in order, even where a log goes back.
        highest = -1
        self._steps = [highest := highest if step is None else max(highest, step) for step in steps]

    def __call__(self, step: int | None) -> int:
        return len(self._steps) if step is None else bisect_right(self._steps, step)


def _why_not(run: Run, split: str) -> str:
    values = [point.number("loss") for point in run.evaluations[split]]
    if all(value is None for value in values):
        return f"the evaluations of split {split} carry no loss. Log the metric loss with them."
    if not any(value is not None and math.isfinite(value) for value in values):
        return f"no finite loss was logged for split {split}."
    return "no finite training loss was logged. Log the loss, or evaluate split train (train_eval_samples=N)."


def _values(points: Sequence[EvalPoint], number: Callable[[EvalPoint], float | None]) -> list[_Valued]:
    """Step and number of each point that has a finite one."""
    pairs = ((point.step, number(point)) for point in points)
    return [(step, float(value)) for step, value in pairs if value is not None and math.isfinite(value)]


def _ppl(point: EvalPoint) -> float | None:
    # A perplexity is at least 1; a value that is not positive is no perplexity, and gives no ratio.
    ppl = point.number("ppl")
    return ppl if ppl is not None and ppl > 0 else None


def _loss(point: EvalPoint) -> float | None:
    return point.number("loss")


def _loss_or_log_ppl(point: EvalPoint) -> float | None:
    loss, ppl = _loss(point), _ppl(point)
    return loss if loss is not None or ppl is None else math.log(ppl)


def _ratio(held_out: float, train: float) -> float:
    return held_out / train


def _exp(held_out: float, train: float) -> float:
    try:
        return math.exp(held_out - train)
    except OverflowError:
        return math.inf
