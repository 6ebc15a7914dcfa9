"""Declared steps: whether the declared number of steps follows from data, batch and epochs.

Formula: ceil(examples / (batch size x gradient accumulation x world size)) x epochs. Measured only when the number of
epochs decides, that is when a number of epochs is declared beside the steps, and all of the other numbers are
recorded.

**`total_steps_inconsistent` (V08).** The declared number is farther from it than one step an epoch, which is what a
loader that drops the last incomplete batch makes. A schedule made for another number of steps ends too early or too
late.

**May be wrong** with model parallelism (the world is larger than the number of data shards), a sampler that draws a
part of the data, or a declared number of steps that was meant to cut the epochs short.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gradience_analysis.model import Finding, Measurement, Run, as_number
from gradience_analysis.policy import Policy
from gradience_analysis.telemetry.schedules import LARGEST_STEP
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "total_steps_inconsistent": "The declared number of steps does not follow from data, batch and epochs.",
}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "declared_steps_off"


def measure(run: Run) -> tuple[Measurement, ...]:
    """Declared minus computed number of steps, with the numbers that it was computed from."""
    training = run.config.training if run.config else None
    if training is None:
        return (Measurement(NAME, None, "steps", reason="there is no run_start, which would declare the steps."),)
    used = training.extras.get("effective_batch_size")
    numbers = {
        "max_steps": training.max_steps,
        "epochs": training.epochs,
        "num_train_examples": training.num_train_examples,
        "batch_size": as_number(used) or training.batch_size,
        "gradient_accumulation": training.gradient_accumulation,
        "world_size": training.world_size,
    }
    missing = [name for name, value in numbers.items() if not _is_count(value, whole=name != "epochs")]
    if missing:
        reason = f"training.{missing[0]} is not recorded. Log {', '.join(numbers)} to have the steps computed."
        return (Measurement(NAME, None, "steps", reason=reason),)
    steps, epochs, examples, *batch = (float(value) for value in numbers.values() if value is not None)
    computed = math.ceil(math.ceil(examples / math.prod(batch)) * epochs)
    details = {**numbers, "computed": computed, "steps_by_logged_epochs": _by_logged_epochs(run, epochs)}
    source = "ceil(examples / (batch size x accumulation x world size)) x epochs, all as declared"
    return (Measurement(NAME, int(steps) - computed, "steps", source, details=details),)


def _is_count(value: float | None, *, whole: bool) -> bool:
    """Whether it is a number that something can be counted with."""
    return value is not None and (value >= 1 if whole else value > 0) and value <= LARGEST_STEP


def _by_logged_epochs(run: Run, epochs: float) -> float | None:
    """The number of steps that the logged epochs lead to: the last step over its epoch, times the declared epochs."""
    logged = [(step, epoch) for step, epoch in run.series("epoch") if 0 < epoch <= LARGEST_STEP]
    return logged[-1][0] / logged[-1][1] * epochs if logged else None


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning when the difference is more than the policy allows for each epoch."""
    (off,) = measurements
    if not isinstance(off.value, int):
        return []
    details = off.details
    limit = policy["declared_steps.steps_an_epoch"]
    allowed = limit.value * max(1, math.ceil(details["epochs"]))
    logged = details["steps_by_logged_epochs"]
    # The trainer's own count of epochs is the better witness: where it agrees with the declaration, that is right.
    if abs(off.value) <= allowed or (logged is not None and abs(details["max_steps"] - logged) <= allowed + 1):
        return []
    return [
        Finding(
            code="total_steps_inconsistent",
            rule="V08",
            severity=Severity.WARNING,
            message=(
                f"The run declares {details['max_steps']} steps, while {details['num_train_examples']} examples "
                f"and {details['epochs']:g} epochs give {details['computed']}."
            ),
            evidence=details,
            advice="Compute the number of steps before the schedule is made, and pass the same number to both.",
            confidence=0.7,
            basis=f"declared numbers alone; the limit is {limit.standing}",
            caveat="model parallelism, or steps that are meant to cut the epochs short, look the same",
        )
    ]
