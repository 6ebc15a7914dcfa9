"""Learning rate: is the peak learning rate a positive number within what is usual?

It must be a finite number above 0. Outside the policy's range the finding is a warning, and an error above the rate
that no optimizer for LoRA takes. The usual rate depends on the optimizer, the batch and the model: recent work finds
that LoRA wants about ten times the rate of full fine-tuning, and published recipes lie between 1e-5 and 5e-3. What a
task profile says about the rate is said by the restraint advice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.settings.quantity import (
    broken,
    change,
    evidence,
    in_words,
    spelled,
    standing,
    take,
    usable,
)
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {"lr_invalid": "The learning rate is no finite number above 0, or far from what is usual."}
COVERS: Mapping[str, frozenset[str]] = {"lr_invalid": frozenset({"step_size_restraint"})}
_RANGE = ("peak_lr.lowest", "peak_lr.highest")


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The peak learning rate."""
    absent = "no learning rate is set; set learning_rate"
    taken = take(subject, "optimizer.lr", "peak_lr", "learning rate", absent=absent)
    if not taken.details:
        return (taken,)
    details = {**taken.details, "lora": "lora.r" in subject.settings}
    return (Measurement(taken.name, taken.value, taken.unit, taken.source, taken.reason, details),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error for a rate that is none, a warning for one outside the policy's range."""
    (rate,) = measurements
    if not rate.details or rate.details["fault"] == "null":
        return []
    value = usable(rate)
    if value is None or value <= 0:
        message = f"The learning rate is {in_words(rate)} ({rate.source}); it must be a finite number above 0."
        return [broken(rate, "lr_invalid", "C03", message, *_suggestion(rate))]
    lowest, highest = (policy.limit(name) for name in _RANGE)
    if lowest <= value <= highest:
        return []
    hopeless = value > policy.limit("peak_lr.hopeless")
    side = "far above" if hopeless else "above" if value > highest else "below"
    return [
        Finding(
            code="lr_invalid",
            severity=Severity.ERROR if hopeless else Severity.WARNING,
            message=f"The learning rate is {spelled(value)} ({rate.source}), {side} the usual {spelled(lowest)} to "
            f"{spelled(highest)}.",
            evidence=evidence(rate, range=[lowest, highest]),
            confidence=0.9 if hopeless else 0.6,
            basis=standing(policy, *_RANGE, *(["peak_lr.hopeless"] if hopeless else [])),
            caveat="Optimizers that scale the rate themselves (Prodigy, D-Adaptation) take 1; plain SGD takes more.",
            rule="C03",
            changes=(change(rate, *_suggestion(rate)),),
        )
    ]


def _suggestion(rate: Measurement) -> tuple[str, str]:
    if rate.details["lora"]:
        return "1e-4 to 5e-4", "published LoRA recipes start there"
    return "1e-5 to 5e-5", "full fine-tuning starts there, LoRA ten times higher"
