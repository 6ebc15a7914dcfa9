"""Schedule: do warm-up and intervals fit into the training, and is anything evaluated?

The optimizer steps of the whole training are `max_steps`, or `ceil(N / (batch · ranks · accumulation)) · epochs` from
the number of training examples, which `--data` counts. A warm-up of at least that many steps never reaches the peak
rate; an interval of evaluations or checkpoints above it is never reached; and `eval_strategy: no` evaluates nothing.
Without a number of steps the intervals cannot be judged. Hugging Face's trainer evaluates and saves once more at the
end when a strategy in steps is on, so that a long interval costs the curve, not the result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gradience_analysis.config_check.settings.quantity import BY_DEFINITION, by_name, shown, where
from gradience_analysis.config_check.subject import Preflight, Setting
from gradience_analysis.model import Change, Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "schedule_incomplete": "The warm-up or an interval is longer than the training, or nothing is evaluated."
}
COVERS: Mapping[str, frozenset[str]] = {}
_INTERVALS = {"eval_interval": ("eval", "eval_steps"), "save_interval": ("save", "save_steps")}
_OFF = frozenset({"no", "none", "false", "off"})
_AT_THE_END = "A trainer may do so once at the end all the same."


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Steps of the training, of the warm-up and of the intervals, and whether anything is evaluated."""
    intervals = [_interval(subject, name, what, key) for name, (what, key) in _INTERVALS.items()]
    return (_total(subject), _warmup(subject), *intervals, _evaluated(subject))


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning for each thing that does not fit."""
    del policy
    taken = by_name(measurements)
    total = taken["total_steps"].value
    found: list[Finding] = []
    if isinstance(total, int):
        found += _too_long(taken["warmup_steps"], total, "warm-up", at_least=True)
        for name, (what, _) in _INTERVALS.items():
            found += _too_long(taken[name], total, "evaluations" if what == "eval" else "checkpoints", at_least=False)
    evaluated = taken["evaluation_planned"]
    if evaluated.value == 0:
        found.append(_not_evaluated(evaluated))
    return found


def _total(subject: Preflight) -> Measurement:
    name, unit = "total_steps", "steps"
    steps = subject.number("training.max_steps")
    if isinstance(steps, int) and steps > 0:
        return Measurement(name, steps, unit, where(subject.settings["training.max_steps"]))
    examples, source = _examples(subject)
    epochs, batch = subject.number("training.epochs"), subject.number("training.batch_size")
    if examples is None or not epochs or epochs <= 0 or not isinstance(batch, int) or batch < 1:
        reason = "needs max_steps, or epochs, batch size and the number of examples; give --data to count them"
        return Measurement(name, None, unit, reason=reason)
    passes = _whole(subject.number("training.gradient_accumulation"))
    ranks = _whole(subject.number("training.world_size"))
    each = math.ceil(examples / (batch * ranks * passes))
    details = {"examples": examples, "batch_size": batch, "world_size": ranks, "gradient_accumulation": passes}
    steps = min(math.ceil(each * epochs), 1 << 62) if epochs < 1e15 else 1 << 62
    return Measurement(name, steps, unit, f"{source}, batch and epochs", details={**details, "epochs": epochs})


def _examples(subject: Preflight) -> tuple[int | None, str]:
    train = None if subject.data is None else subject.data.train
    if train is not None and train.complete and train.examples > 0:
        return train.examples, f"the examples in {train.path}"
    declared = subject.number("training.num_train_examples")
    if isinstance(declared, int) and declared > 0:
        return declared, where(subject.settings["training.num_train_examples"])
    return None, ""


def _whole(value: float | None) -> int:
    """A count that is 1 where it is not set or cannot be."""
    return value if isinstance(value, int) and value >= 1 else 1


def _warmup(subject: Preflight) -> Measurement:
    for key in ("training.warmup_steps", "training.warmup_ratio"):
        value = subject.number(key)
        if value is not None and value > 0:
            return _length("warmup_steps", subject.settings[key], value, share=key.endswith("ratio") or value < 1)
    return Measurement("warmup_steps", None, "steps", reason="no warm-up is set")


def _interval(subject: Preflight, name: str, what: str, key: str) -> Measurement:
    strategy = subject.settings.get(f"training.{what}_strategy")
    if strategy is not None and strategy.value != "steps":
        return Measurement(name, None, "steps", reason=f"{where(strategy)} is {shown(strategy.raw)}, not steps")
    keys = [key, *(["logging_steps"] if what == "eval" and strategy is not None else [])]
    for one in keys:
        value = subject.number(f"training.{one}")
        if value is not None and value > 0:
            return _length(name, subject.settings[f"training.{one}"], value, share=value < 1)
    return Measurement(name, None, "steps", reason=f"not set; set {key}")


def _length(name: str, setting: Setting, value: float, *, share: bool) -> Measurement:
    details = {"setting": setting.name, "written": shown(setting.raw), "share": share}
    return Measurement(name, value, "share" if share else "steps", where(setting), details=details)


def _evaluated(subject: Preflight) -> Measurement:
    name, unit = "evaluation_planned", "0 or 1"
    strategy = subject.settings.get("training.eval_strategy")
    if strategy is None or strategy.value is None:
        return Measurement(name, None, unit, reason="not known; set eval_strategy")
    off = strategy.value is False or (isinstance(strategy.value, str) and strategy.value.lower() in _OFF)
    if off and subject.flag("training.do_eval"):
        return Measurement(name, 1, unit, where(subject.settings["training.do_eval"]))
    details = {"setting": strategy.name, "written": shown(strategy.raw)}
    return Measurement(name, 0 if off else 1, unit, where(strategy), details=details)


def _too_long(length: Measurement, total: int, what: str, *, at_least: bool) -> list[Finding]:
    value = length.value
    if not isinstance(value, int | float):
        return []
    steps = value * total if length.details["share"] else value
    if steps < total or (steps == total and not at_least):
        return []
    relation = "at least as many as" if at_least else "more than"
    written = length.details["written"]
    amount = f"{written} of all steps" if length.details["share"] else f"{value:,} steps"
    lead = f"The warm-up is {amount}" if at_least else f"The interval of {what} is {amount}"
    evidence: dict[str, Any] = {"setting": length.details["setting"], "value": value, "total_steps": total}
    suggested = f"{max(1, total // 20):,}" if at_least else f"{max(1, total // 10):,}"
    why = "that is about 5% of the training" if at_least else "that is about ten times in the training"
    return [
        _finding(
            f"{lead} ({length.source}), {relation} the {total:,} of the training.",
            evidence,
            Change(length.details["setting"], written, suggested, why),
            caveat="" if at_least else _AT_THE_END,
        )
    ]


def _not_evaluated(evaluated: Measurement) -> Finding:
    setting, written = evaluated.details["setting"], evaluated.details["written"]
    return _finding(
        f"Nothing is evaluated during training ({evaluated.source} is {written}).",
        {"setting": setting, "value": written},
        Change(setting, written, "steps or epoch", "memorization shows only in evaluations"),
        caveat="",
    )


def _finding(message: str, evidence: dict[str, Any], change: Change, *, caveat: str) -> Finding:
    return Finding(
        code="schedule_incomplete",
        severity=Severity.WARNING,
        message=message,
        evidence=evidence,
        confidence=0.8,
        basis=BY_DEFINITION,
        caveat=caveat,
        rule="C10",
        changes=(change,),
    )
