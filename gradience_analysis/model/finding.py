"""Numbers without thresholds (`Measurement`) and what a policy makes of them (`Finding`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from gradience_schema import Severity

Scalar: TypeAlias = "float | int | str | None"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a run something stands.

    Attributes:
        step: Optimizer step, or None where a step has no meaning.
        path: The file; empty when it is in none.
        line: 1-based line number in it, or None for the whole file.
    """

    step: int | None = None
    path: str = ""
    line: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; every key is always present."""
        return {"step": self.step, "path": self.path or None, "line": self.line}

    def __str__(self) -> str:
        step = "" if self.step is None else f"step {self.step:,}"
        where = self.path if self.line is None else f"{self.path}:{self.line}" if self.path else f"line {self.line}"
        return f"{step} ({where})" if step and where else step or where


@dataclass(frozen=True, slots=True)
class Change:
    """One setting to try another value of.

    Attributes:
        setting: Its name as in the configuration, such as `lora.r`.
        current: Its value now, in words.
        suggested: The value or range to try, in words.
        why: One sentence.
    """

    setting: str
    current: str
    suggested: str
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; every key is always present."""
        return {"setting": self.setting, "current": self.current, "suggested": self.suggested, "why": self.why}


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
        places: Where in the run it was taken from, or where what it counts stands.
    """

    name: str
    value: Scalar
    unit: str
    source: str = ""
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    places: tuple[Place, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; every key is always present."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "source": self.source,
            "reason": self.reason,
            "details": dict(self.details),
            "places": [place.to_dict() for place in self.places],
        }


@dataclass(frozen=True, slots=True)
class Finding:
    """A judgement on measurements, with what it rests on.

    Attributes:
        code: Stable slug, such as `generalization_gap`.
        severity: How much it matters.
        message: One sentence.
        evidence: The numbers it rests on, by name.
        advice: What to try; a hypothesis to test, not an order.
        confidence: 0..1.
        basis: What the confidence rests on.
        caveat: When the finding may be wrong.
        rule: Id of the rule of the catalogue that it follows, such as `T04`; empty for what is no rule of it.
        places: Steps and lines that it is about; reports mark the steps in their curves.
        changes: Settings to try, each with its value now, the suggested one, and why.
    """

    code: str
    severity: Severity
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    advice: str = ""
    confidence: float = 1.0
    basis: str = ""
    caveat: str = ""
    rule: str = ""
    places: tuple[Place, ...] = ()
    changes: tuple[Change, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; every key is always present."""
        return {
            "code": self.code,
            "rule": self.rule or None,
            "severity": str(self.severity),
            "message": self.message,
            "evidence": dict(self.evidence),
            "advice": self.advice,
            "confidence": self.confidence,
            "basis": self.basis,
            "caveat": self.caveat,
            "places": [place.to_dict() for place in self.places],
            "changes": [change.to_dict() for change in self.changes],
        }
