"""Length of training: does anything say how long to train?

Either `max_steps` or a number of epochs must be above 0. Where a configuration has settings of the training and
neither of the two, or both are 0 or below, it is an error. A configuration of an adapter alone is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradience_analysis.config_check.settings.quantity import BY_DEFINITION, by_name, take, usable
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Change, Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {"no_training_length": "Neither max_steps nor a number of epochs is above 0."}
COVERS: Mapping[str, frozenset[str]] = {}
_KEYS = {"max_steps": "training.max_steps", "epochs": "training.epochs"}


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Steps and epochs, and whether the configuration is one of a training at all."""
    settings = sum(key.startswith("training.") for key in subject.settings)
    reason = "" if settings else "no setting of the training was given; give --training"
    return (
        take(subject, "training.max_steps", "max_steps", "steps", absent="not set"),
        take(subject, "training.epochs", "epochs", "epochs", absent="not set"),
        Measurement("training_settings", settings or None, "settings", "the configuration", reason),
    )


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error when neither is a number above 0, though there are settings of a training."""
    del policy
    taken = by_name(measurements)
    if taken["training_settings"].value is None:
        return []
    lengths = [taken[name] for name in _KEYS]
    if any((value := usable(one)) is not None and value > 0 for one in lengths):
        return []
    said = [f"{one.details['setting']} is {one.details['written']}" for one in lengths if one.details]
    message = "Neither max_steps nor a number of epochs is above 0"
    written: dict[str, Any] = {one.name: one.details["written"] if one.details else "not set" for one in lengths}
    epochs = taken["epochs"]
    return [
        Finding(
            code="no_training_length",
            severity=Severity.ERROR,
            message=f"{message} ({' and '.join(said)})." if said else f"{message}: neither is set.",
            evidence=written,
            basis=BY_DEFINITION,
            caveat="" if said else "A trainer has a length of its own where none is set: 3 epochs in Hugging Face's.",
            confidence=1.0 if said else 0.7,
            rule="C07",
            changes=(
                Change(
                    epochs.details["setting"] if epochs.details else "num_train_epochs",
                    epochs.details["written"] if epochs.details else "not set",
                    "1 to 3",
                    "this or max_steps must say when to end",
                ),
            ),
        )
    ]
