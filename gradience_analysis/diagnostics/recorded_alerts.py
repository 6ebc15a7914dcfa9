"""Recorded alerts: what was raised while the run trained is not lost in its report.

**Counted.** Alert records of every segment, by severity and code; what a resume superseded was raised nevertheless.

**`alerts_warning`, `alerts_error`, `alerts_critical`.** One finding for each severity from warning up, with the
severity that the run itself gave.

**Silent** about alerts of a guard and about those that speak of NaN or infinite values: `guard_activity` and
`nonfinite_values` read them, and say what they say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from gradience_analysis.model import Finding, Measurement, Run
from gradience_analysis.policy import Policy
from gradience_analysis.telemetry.alerts import is_of_guard, is_of_nonfinite
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "alerts_warning": "The run recorded alerts of severity warning.",
    "alerts_error": "The run recorded alerts of severity error.",
    "alerts_critical": "The run recorded alerts of severity critical.",
}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "recorded_alerts"
_LOUD = (Severity.WARNING, Severity.ERROR, Severity.CRITICAL)


def measure(run: Run) -> tuple[Measurement, ...]:
    """Number of alerts, with the counts by severity and code of those that no other diagnostic speaks for."""
    others = [alert for alert in run.alerts if not is_of_guard(alert) and not is_of_nonfinite(alert)]
    counts = Counter((str(alert.payload["severity"]), str(alert.payload["code"])) for alert in others)
    by_severity = {
        str(level): {code: number for (severity, code), number in counts.items() if severity == level}
        for level in Severity
    }
    details = {
        "by_severity": {level: codes for level, codes in by_severity.items() if codes},
        "said_by_others": len(run.alerts) - len(others),
    }
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
