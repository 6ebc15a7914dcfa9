"""Batch: are batch size and gradient accumulation within their range?

The examples of one device and forward pass, and the forward passes of one optimizer step, must be integers within
the policy's range (1 to 128). It is wrong about a small model on short sequences that is trained with larger
batches on purpose: raise the limit in a policy file then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.settings.quantity import broken, in_words, take, usable
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy

CODES: Mapping[str, str] = {"batch_invalid": "The batch size or the gradient accumulation is out of its range."}
COVERS: Mapping[str, frozenset[str]] = {}
_WORDS = {"batch_size": "batch size", "gradient_accumulation": "gradient accumulation"}
_WHY = {
    "batch_size": "memory limits it, and accumulation makes up for it",
    "gradient_accumulation": "an optimizer step sees batch size x accumulation",
}


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Batch size per device, and gradient accumulation."""
    absent = "not set; set per_device_train_batch_size"
    steps = "not set; the trainer then takes 1"
    return (
        take(subject, "training.batch_size", "batch_size", "examples", whole=True, absent=absent),
        take(subject, "training.gradient_accumulation", "gradient_accumulation", "passes", whole=True, absent=steps),
    )


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error for each that is no integer within the policy's range."""
    lowest, highest = int(policy.limit("batch_size.lowest")), int(policy.limit("batch_size.highest"))
    found: list[Finding] = []
    for one in measurements:
        value = usable(one)
        if not one.details or one.details["fault"] == "null" or (value is not None and lowest <= value <= highest):
            continue
        message = (
            f"The {_WORDS[one.name]} is {in_words(one)} ({one.source}); "
            f"it must be an integer from {lowest} to {highest:,}."
        )
        suggested = f"{lowest} to {highest:,}" if one.name == "gradient_accumulation" else "1 to 16"
        limits = [lowest, highest]
        found.append(broken(one, "batch_invalid", "C04", message, suggested, _WHY[one.name], range=limits))
    return found
