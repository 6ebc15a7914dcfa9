"""Generalization gap: how much worse the model is on held-out data than on what it was trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradience_analysis.model import Finding, Measurement, Run
from gradience_analysis.policy import Policy
from gradience_analysis.telemetry.signals import Gap, GapReading, generalization_gap
from gradience_schema import Severity

NAME = "generalization_gap"
_CONFIDENCE = {"evaluated": 0.8, "logged": 0.5}


def measure(run: Run) -> tuple[Measurement, ...]:
    """The ratio at the last evaluation, with the one at the best evaluation beside it."""
    gap = generalization_gap(run)
    if isinstance(gap, str):
        return (Measurement(NAME, None, "ratio", reason=gap),)
    details = {
        "kind": gap.kind,
        "formula": formula(gap),
        "held_out_split": gap.held_out_split,
        "train_source": gap.train_source,
        "language_model": gap.language_model,
        "at_last": _details(gap.last),
        "at_best": _details(gap.best),
    }
    if not math.isfinite(gap.last.ratio):
        difference = gap.last.held_out - gap.last.train
        reason = f"exp of a loss difference of {difference:.3g} is beyond the range of a double."
        return (Measurement(NAME, None, "ratio", source(gap, gap.last), reason, details),)
    return (Measurement(NAME, gap.last.ratio, "ratio", source(gap, gap.last), details=details),)


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


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning when the ratio at the last evaluation is above the threshold."""
    (gap,) = measurements
    limit = policy.generalization_gap
    if not gap.details:
        return []
    ratio = math.inf if gap.value is None else float(gap.value)
    if ratio <= limit.value:
        return []
    best, last = gap.details["at_best"], gap.details["at_last"]
    evaluated = gap.details["train_source"] == "evaluated"
    basis = "split train was evaluated" if evaluated else "the training loss is the logged one, not an evaluation"
    shown = "beyond measure" if math.isinf(ratio) else f"{ratio:.2f}"
    return [
        Finding(
            code=NAME,
            severity=Severity.WARNING,
            message=f"The generalization gap is {shown}, above {limit.value:g} ({gap.details['formula']}).",
            evidence={"at_last": last, "at_best": best, "threshold": limit.value, "threshold_source": limit.source},
            advice=_advice(best, last, limit.value),
            confidence=_CONFIDENCE[gap.details["train_source"]],
            basis=f"{basis}; the threshold is {'calibrated' if limit.calibrated else 'not calibrated'}",
            caveat=_caveat(gap.details["language_model"], evaluated=evaluated),
        )
    ]


def _details(reading: GapReading) -> dict[str, float | int | list[int | None] | None]:
    return {
        "step": reading.step,
        "ratio": reading.ratio if math.isfinite(reading.ratio) else None,
        "held_out": reading.held_out,
        "train": reading.train,
        "train_steps": list(reading.train_step),
    }


def _advice(best: dict[str, float | None], last: dict[str, float | None], limit: float) -> str:
    tries = "Try fewer steps, a lower rank, dropout or more data, one at a time."
    ratio = best["ratio"]
    if best["step"] == last["step"] or ratio is None:
        return tries
    place = "below the threshold" if ratio <= limit else "also above the threshold"
    best_words = f"The best held-out number was at step {best['step']}; the gap there is {ratio:.2f}, {place}."
    return f"{best_words} {tries}"


def _caveat(language_model: bool | None, *, evaluated: bool) -> str:
    parts: list[str] = []
    if language_model is not True:
        parts.append("the threshold is meant for perplexities, and this run logs none")
    if not evaluated:
        parts.append(
            "a logged loss is taken with dropout on weights that still move (train_eval_samples=N measures it)"
        )
    return "; ".join(parts)
