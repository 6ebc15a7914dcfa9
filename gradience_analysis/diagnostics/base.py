"""The shape of a diagnostic: a module (or object) that measures a subject and judges its measurements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from gradience_analysis.model import Finding, Measurement, Run
from gradience_analysis.model.gravity import SEVERITY_RANK
from gradience_analysis.policy import Policy

Subject = TypeVar("Subject")
Subject_contra = TypeVar("Subject_contra", contravariant=True)


class Examination(Protocol[Subject_contra]):
    """Two functions of one question, and what they can say.

    `measure` never sees a threshold; `judge` never reads a file and looks at nothing but the measurements
    of its own.
    """

    @property
    def CODES(self) -> Mapping[str, str]:  # noqa: N802 - a constant of the module
        """Code of each finding that it can make, with one sentence on what it says."""
        ...

    @property
    def COVERS(self) -> Mapping[str, frozenset[str]]:  # noqa: N802
        """For a code, those that it makes needless: what it says, they would only say again."""
        ...

    def measure(self, subject: Subject_contra, /) -> tuple[Measurement, ...]:
        """The quantities of this question; one that could not be taken is there with its reason."""
        ...

    def judge(self, measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
        """What the policy makes of them."""
        ...


Diagnostic = Examination[Run]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that was measured, and the findings, worst first."""

    measurements: tuple[Measurement, ...]
    findings: tuple[Finding, ...]

    def measurement(self, name: str) -> Measurement:
        """The measurement of that name.

        Raises:
            KeyError: No diagnostic takes it.
        """
        for item in self.measurements:
            if item.name == name:
                return item
        raise KeyError(name)


def diagnose(subject: Subject, diagnostics: Iterable[Examination[Subject]], policy: Policy) -> Diagnosis:
    """Measure and judge by each diagnostic; nothing is said twice.

    A finding that another one covers is left out. The order within one severity is that of the diagnostics.
    """
    measurements: list[Measurement] = []
    findings: list[Finding] = []
    covers: dict[str, frozenset[str]] = {}
    for diagnostic in diagnostics:
        taken = diagnostic.measure(subject)
        measurements.extend(taken)
        findings.extend(diagnostic.judge(taken, policy))
        covers.update(diagnostic.COVERS)
    said = {finding.code for finding in findings}
    needless = {code for one in said for code in covers.get(one, ())}
    kept = [finding for finding in findings if finding.code not in needless]
    kept.sort(key=lambda finding: SEVERITY_RANK[finding.severity])
    return Diagnosis(tuple(measurements), tuple(kept))
