"""Recorded alerts: what was raised while the run trained is not lost in its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gradience_analysis.model import Finding, Measurement, Run
from gradience_analysis.policy import Policy
from gradience_schema import Severity

NAME = "recorded_alerts"
_LOUD = (Severity.WARNING, Severity.ERROR, Severity.CRITICAL)


def measure(run: Run) -> tuple[Measurement, ...]:
    """Number of alerts, with the counts by severity and code; alerts of every segment count."""
    counts = Counter((str(alert.payload["severity"]), str(alert.payload["code"])) for alert in run.alerts)
    by_severity = {
        str(level): {code: number for (severity, code), number in counts.items() if severity == level}
        for level in Severity
    }
    details = {"by_severity": {level: codes for level, codes in by_severity.items() if codes}}
    return (Measurement(NAME, len(run.alerts), "alerts", "alert records", details=details),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """One finding for each severity from warning up, with the severity that the run itself gave it."""
    (alerts,) = measurements
    findings: list[Finding] = []
    for level in _LOUD:
        codes: dict[str, int] = alerts.details["by_severity"].get(str(level), {})
        if codes:
            named = ", ".join(code if number == 1 else f"{code} ({number} times)" for code, number in codes.items())
            findings.append(
                Finding(
                    code=f"alerts_{level}",
                    severity=level,
                    message=f"The run recorded alerts of severity {level}: {named}.",
                    evidence={"codes": codes},
                    advice="Their messages stand under alerts.",
                    basis="the alerts stand in the records",
                )
            )
    return findings
