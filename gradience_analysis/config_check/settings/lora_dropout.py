"""Dropout: is the dropout of the adapter a probability below 1?

It must be a finite number in [0, 1): at 1 nothing of the adapter's input is left. 0 to 0.1 is usual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.settings.quantity import broken, in_words, take, usable
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy

CODES: Mapping[str, str] = {"dropout_invalid": "The dropout is not in [0, 1)."}
COVERS: Mapping[str, frozenset[str]] = {}


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The dropout probability on the adapter's input."""
    return (take(subject, "lora.dropout", "lora_dropout", "probability", absent="not set; the library then takes 0"),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error for a dropout that is no probability below 1."""
    del policy
    (dropout,) = measurements
    if not dropout.details or dropout.details["fault"] == "null":
        return []
    value = usable(dropout)
    if value is not None and 0 <= value < 1:
        return []
    message = f"The dropout is {in_words(dropout)} ({dropout.source}); it must be at least 0 and below 1."
    return [broken(dropout, "dropout_invalid", "C06", message, "0 to 0.1", "LoRA recipes use that", range=[0, 1])]
