"""The shape of a diagnostic: a module (or object) that measures a run and judges its measurements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gradience_analysis.model import Finding, Measurement, Run
from gradience_analysis.policy import Policy
from gradience_schema import Severity

_RANK = {Severity.CRITICAL: 0, Severity.ERROR: 1, Severity.WARNING: 2, Severity.INFO: 3}


class Diagnostic(Protocol):
    """Two functions of one subject.

    `measure` never sees a threshold; `judge` never reads a file and looks at nothing but the measurements
    of its own diagnostic.
    """

    def measure(self, run: Run) -> tuple[Measurement, ...]:
        """The quantities of this diagnostic; one that could not be taken is there with its reason."""
        ...

    def judge(self, measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
        """What the policy makes of them."""
        ...


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


def diagnose(run: Run, diagnostics: Iterable[Diagnostic], policy: Policy) -> Diagnosis:
    """Measure and judge a run by each diagnostic; the order within one severity is that of the diagnostics."""
    measurements: list[Measurement] = []
    findings: list[Finding] = []
    for diagnostic in diagnostics:
        taken = diagnostic.measure(run)
        measurements.extend(taken)
        findings.extend(diagnostic.judge(taken, policy))
    findings.sort(key=lambda finding: _RANK[finding.severity])
    return Diagnosis(tuple(measurements), tuple(findings))
