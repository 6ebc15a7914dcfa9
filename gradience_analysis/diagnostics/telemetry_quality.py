"""Telemetry quality: whether the record itself is whole; every other number rests on it."""

from __future__ import annotations

from collections.abc import Sequence

from gradience_analysis.model import Finding, Measurement, Run, plural
from gradience_analysis.policy import Policy
from gradience_schema import Severity


def measure(run: Run) -> tuple[Measurement, ...]:
    """Records lost (rejected lines, gaps in seq, dropped by the emitter), faults survived, and issues."""
    segments = (*run.segments, *run.other_ranks)
    dropped = sum(max(event.dropped_events for event in segment.events) for segment in segments)
    faults = sum(max(event.telemetry_faults for event in segment.events) for segment in segments)
    # A dropped event leaves its gap in seq and its count in the next record: one loss, seen twice.
    lost = run.lines_rejected + max(run.events_missing, dropped)
    details = {"rejected_lines": run.lines_rejected, "seq_gaps": run.events_missing, "dropped_by_emitter": dropped}
    issues = {
        "errors": run.count_issues(severity=Severity.ERROR),
        "warnings": run.count_issues(severity=Severity.WARNING),
    }
    kinds = {item.code: item.count for item in run.issue_counts}
    return (
        Measurement("events_lost", lost, "records", "refused lines, gaps in seq, dropped_events", details=details),
        Measurement("telemetry_faults", faults, "faults", "telemetry_faults of the records"),
        Measurement("telemetry_issues", sum(issues.values()), "issues", "reading", details={**issues, "kinds": kinds}),
    )


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning for lost records, or for errors that cost none; info for faults the emitter survived."""
    lost, faults, issues = measurements
    findings: list[Finding] = []
    if isinstance(lost.value, int) and lost.value > policy.events_lost.value:
        findings.append(
            Finding(
                code="events_lost",
                severity=Severity.WARNING,
                message=f"{plural(lost.value, 'telemetry record')} lost: {_parts(lost)}.",
                evidence=dict(lost.details),
                advice="`gradience validate` names each place. The numbers here come from the records that are left.",
                basis="counted while reading",
            )
        )
    elif issues.details["errors"]:
        findings.append(
            Finding(
                code="contract_broken",
                severity=Severity.WARNING,
                message=f"The file breaks the contract in {plural(issues.details['errors'], 'place')}.",
                evidence=dict(issues.details["kinds"]),
                advice="`gradience validate` names each place.",
                basis="counted while reading",
            )
        )
    if faults.value:
        findings.append(
            Finding(
                code="telemetry_faults",
                severity=Severity.INFO,
                message=f"The emitter survived {plural(int(faults.value), 'internal fault')}; training went on.",
                advice="The training log holds the first one with its traceback; please report it.",
                basis="the emitter counts them",
            )
        )
    return findings


def _parts(lost: Measurement) -> str:
    words = {
        "rejected_lines": "{} of them in lines that cannot be read",
        "seq_gaps": "{} missing in the sequence",
        "dropped_by_emitter": "{} dropped by the emitter",
    }
    return ", ".join(text.format(lost.details[key]) for key, text in words.items() if lost.details[key])
