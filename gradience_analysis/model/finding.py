"""Numbers without thresholds (`Measurement`) and what a policy makes of them (`Finding`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from gradience_schema import Severity

Scalar: TypeAlias = "float | int | str | None"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One quantity taken from a run; it never knows a threshold.

    Attributes:
        name: Stable slug of the quantity.
        value: The number, or None when it could not be measured. NaN means mathematically undefined.
        unit: Unit in words, such as `ratio` or `steps`.
        source: Which numbers of the run it was taken from.
        reason: Why there is no value and what to log to get one; empty when there is a value.
        details: Further numbers a report or a judgement may use.
    """

    name: str
    value: Scalar
    unit: str
    source: str = ""
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; every key is always present."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "source": self.source,
            "reason": self.reason,
            "details": dict(self.details),
        }


@dataclass(frozen=True, slots=True)
class Finding:
    """A judgement on measurements, with what it rests on.

    Attributes:
        code: Stable slug, such as `generalization_gap`.
        severity: How much it matters.
        message: One sentence.
        evidence: The numbers, steps and places it rests on.
        advice: What to try; a hypothesis to test, not an order.
        confidence: 0..1.
        basis: What the confidence rests on.
        caveat: When the finding may be wrong.
    """

    code: str
    severity: Severity
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    advice: str = ""
    confidence: float = 1.0
    basis: str = ""
    caveat: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; every key is always present."""
        return {
            "code": self.code,
            "severity": str(self.severity),
            "message": self.message,
            "evidence": dict(self.evidence),
            "advice": self.advice,
            "confidence": self.confidence,
            "basis": self.basis,
            "caveat": self.caveat,
        }
