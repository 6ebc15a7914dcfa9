"""Generalization gap: how much worse is the model on held-out data than on what it was trained on?

**Measured**: `generalization_gap`, held-out perplexity over training perplexity at the last evaluation; without
perplexities exp(held-out loss - training loss), which is the same for a language model. A training number that was
evaluated (split train) is preferred to the logged loss, and split test to val for perplexities. 1 means no gap. Its
course is taken on the held-out split that was evaluated most often: the gap at each evaluation, its slope in 100
steps (Theil-Sen), and the evaluation with the best held-out number, which is the checkpoint to compare with.

**A finding** (warning) is a gap above `generalization_gap.ratio`. It names the evaluation from which on the gap
stayed above. It is an info in two cases. The gap is above the limit on split test alone, and not on the split that
was evaluated along the way: then the data differ. Or, up to `generalization_gap.while_improving`, the held-out loss
fell until the end: of three evaluations or more, the last is within `generalization_gap.at_best` of the best, and the
later half went below the earlier one by more than that. Then training has cost nothing yet. `--gap-threshold` sets
both limits, so that a gap above it is a warning in either course.

**Nothing is said** beside memorization, which says the same with its reason, or divergence.

**It may be wrong** where no perplexity is meant (a classifier's loss is no perplexity), where the training loss is
the logged one (taken with dropout, on weights that still move), and where held-out data are harder by themselves: the
gap of the base model, before training, is what to compare with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gradience_analysis.model import Finding, Measurement, Place, Run
from gradience_analysis.policy import Policy
from gradience_analysis.series.robust import slope
from gradience_analysis.telemetry.places import evaluation_places
from gradience_analysis.telemetry.signals import Gap, GapReading, gap_course, generalization_gap
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "generalization_gap": "The model is worse on held-out data than on its training data, by more than the limit.",
}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "generalization_gap"
_SEVERAL = 3
_LARGEST_EXPONENT = 700.0
_CONFIDENCE = {"evaluated": 0.8, "logged": 0.5}


def measure(run: Run) -> tuple[Measurement, ...]:
    """The ratio at the last evaluation, with the one at the best evaluation and the course of it beside it."""
    gap = generalization_gap(run)
    if isinstance(gap, str):
        return (Measurement(NAME, None, "ratio", reason=gap),)
    course = gap_course(run)
    followed = gap if isinstance(course, str) else course
    details = {
        "kind": gap.kind,
        "formula": formula(gap),
        "held_out_split": gap.held_out_split,
        "train_source": gap.train_source,
        "language_model": gap.language_model,
        "at_last": _details(gap.last),
        "at_best": _details(gap.best),
        "course": _course(followed),
    }
    places = evaluation_places(run, followed.held_out_split, [reading.step for reading in followed.readings])
    if gap.held_out_split != followed.held_out_split:
        places += evaluation_places(run, gap.held_out_split, [gap.last.step])
    if not math.isfinite(gap.last.ratio):
        difference = gap.last.held_out - gap.last.train
        reason = f"exp of a loss difference of {difference:.3g} is beyond the range of a double."
        return (Measurement(NAME, None, "ratio", source(gap, gap.last), reason, details, places),)
    return (Measurement(NAME, gap.last.ratio, "ratio", source(gap, gap.last), details=details, places=places),)


def formula(gap: Gap) -> str:
    """The formula in words; a loss difference is called what it is."""
    split = gap.held_out_split
    if gap.kind == "ppl_ratio":
        return f"{split} ppl / train ppl"
    return f"exp({split} loss - train loss)" if gap.train_source == "evaluated" else f"exp({split} loss - logged loss)"


def source(gap: Gap, reading: GapReading) -> str:
    """Which numbers a reading was taken from."""
    number = "ppl" if gap.kind == "ppl_ratio" else "loss"
    at = "" if reading.step is None else f" at step {reading.step}"
    held_out = f"{gap.held_out_split} {number} {reading.held_out:.4g}{at}"
    first, last = reading.train_step
    if gap.train_source == "logged":
        steps = f"step {last}" if first == last else f"steps {first} to {last}"
        return f"{held_out}; mean logged training loss {reading.train:.4g} ({steps})"
    where = "same step" if last == reading.step else f"step {last}"
    return f"{held_out}; train {number} {reading.train:.4g}, split train evaluated ({where})"


def _details(reading: GapReading) -> dict[str, float | int | list[int | None] | None]:
    return {
        "step": reading.step,
        "ratio": _finite(reading.ratio),
        "held_out": reading.held_out,
        "train": reading.train,
        "train_steps": list(reading.train_step),
    }


def _course(gap: Gap) -> dict[str, Any]:
    """The gap at each evaluation that names its step."""
    readings = [reading for reading in gap.readings if reading.step is not None]
    known = [(float(one.step or 0), one.ratio) for one in readings if math.isfinite(one.ratio)]
    per_step = slope(known)
    return {
        "held_out_split": gap.held_out_split,
        "train_source": gap.train_source,
        "readings": [[reading.step, _finite(reading.ratio)] for reading in readings],
        "above_best": _above(gap, gap.readings[-1].held_out, gap.best.held_out),
        "late_rise": _late_rise(gap),
        "slope_per_100_steps": None if math.isnan(per_step) else 100 * per_step,
        "best_step": gap.best.step,
        "best_ratio": _finite(gap.best.ratio),
    }


def _above(gap: Gap, later: float, earlier: float) -> float | None:
    """A held-out perplexity over an earlier one, less 1; None beyond the range of a double."""
    if gap.kind == "ppl_ratio":
        return later / earlier - 1
    return math.expm1(later - earlier) if later - earlier < _LARGEST_EXPONENT else None


def _late_rise(gap: Gap) -> float | None:
    """The best held-out perplexity of the later half of the evaluations over that of the earlier half, less 1."""
    values = [reading.held_out for reading in gap.readings]
    half = len(values) // 2
    return _above(gap, min(values[half:]), min(values[:half])) if half else None


def _finite(ratio: float) -> float | None:
    return ratio if math.isfinite(ratio) else None


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning when the ratio at the last evaluation is above the threshold."""
    (gap,) = measurements
    limit = policy["generalization_gap.ratio"]
    if not gap.details or (gap.value is not None and float(gap.value) <= limit.value):
        return []
    best, last, course = gap.details["at_best"], gap.details["at_last"], gap.details["course"]
    evaluated = gap.details["train_source"] == "evaluated"
    basis = "split train was evaluated" if evaluated else "the training loss is the logged one, not an evaluation"
    onset = _onset(course["readings"], limit.value)
    shifted = _only_shifted(gap.details, limit.value)
    improving = not shifted and _still_improves(gap, policy)
    return [
        Finding(
            code=NAME,
            severity=Severity.INFO if shifted or improving else Severity.WARNING,
            message=_message(gap, limit.value, onset, shifted=shifted, improving=improving),
            evidence={
                "at_last": last,
                "at_best": best,
                "onset_step": onset,
                "slope_per_100_steps": course["slope_per_100_steps"],
                "threshold": limit.value,
                "threshold_source": limit.source,
            },
            advice=_advice(gap.details, limit.value, shifted=shifted),
            confidence=_CONFIDENCE[gap.details["train_source"]],
            basis=f"{basis}; the threshold is {limit.standing}",
            caveat=_caveat(gap.details["language_model"], evaluated=evaluated),
            places=_places(gap, (onset, course["best_step"], last["step"])),
        )
    ]


def _onset(readings: Sequence[tuple[int, float | None]], limit: float) -> int | None:
    """The first evaluation from which on the gap stayed above; None when the last one is not."""
    onset: int | None = None
    for step, ratio in readings:
        if ratio is not None and ratio <= limit:
            onset = None
        elif onset is None:
            onset = step
    return onset


def _only_shifted(details: Mapping[str, Any], limit: float) -> bool:
    """Whether a second held-out split, evaluated along the way against the same training numbers, has no such gap."""
    course = details["course"]
    if course["held_out_split"] == details["held_out_split"] or course["train_source"] != details["train_source"]:
        return False
    ratio = course["readings"][-1][1] if course["readings"] else None
    return ratio is not None and ratio <= limit


def _still_improves(gap: Measurement, policy: Policy) -> bool:
    """Whether the held-out loss fell until the end of several evaluations, with a gap that this excuses."""
    course, near = gap.details["course"], policy.limit("generalization_gap.at_best")
    above_best, late_rise = course["above_best"], course["late_rise"]
    return (
        gap.value is not None
        and float(gap.value) <= policy.limit("generalization_gap.while_improving")
        and len(course["readings"]) >= _SEVERAL
        and above_best is not None
        and above_best <= near
        and late_rise is not None
        and late_rise < -near
    )


def _message(gap: Measurement, limit: float, onset: int | None, *, shifted: bool, improving: bool) -> str:
    shown = "beyond measure" if gap.value is None else f"{float(gap.value):.2f}"
    said = f"The generalization gap is {shown}, above {limit:g} ({gap.details['formula']})"
    course = gap.details["course"]
    if shifted:
        step, ratio = course["readings"][-1]
        return f"{said}, but {ratio:.2f} on split {course['held_out_split']} at step {step}."
    if improving:
        return f"{said}, while the {course['held_out_split']} loss is still at its best."
    since = (
        "" if onset is None or onset == gap.details["at_last"]["step"] else f", and has stayed above since step {onset}"
    )
    return f"{said}{since}."


def _advice(details: Mapping[str, Any], limit: float, *, shifted: bool) -> str:
    course = details["course"]
    split = course["held_out_split"]
    if shifted:
        return (
            f"Look at how split {details['held_out_split']} differs from the training data; "
            f"split {split} shows no memorization."
        )
    tries = "Try fewer steps, a lower rank, dropout or more data, one at a time."
    step, ratio = course["best_step"], course["best_ratio"]
    if step == details["at_last"]["step"] or step is None or ratio is None:
        return tries
    place = "below the threshold" if ratio <= limit else "also above the threshold"
    return f"The best held-out number ({split}) was at step {step}; the gap there is {ratio:.2f}, {place}. {tries}"


def _places(gap: Measurement, steps: Sequence[int | None]) -> tuple[Place, ...]:
    return tuple(place for place in gap.places if place.step in set(steps))


def _caveat(language_model: bool | None, *, evaluated: bool) -> str:
    parts: list[str] = []
    if language_model is not True:
        parts.append("the threshold is meant for perplexities, and this run logs none")
    if not evaluated:
        parts.append(
            "a logged loss is taken with dropout on weights that still move (train_eval_samples=N measures it)"
        )
    return "; ".join(parts)
