"""Run status: whether training ended, and how."""

from __future__ import annotations

from collections.abc import Sequence

from gradience_analysis.model import Finding, Measurement, Run
from gradience_analysis.policy import Policy
from gradience_schema import RunStatus, Severity

NAME = "run_status"


def measure(run: Run) -> tuple[Measurement, ...]:
    """Status of the last segment's run_end, with the last step and what that segment's end says."""
    details = {"last_step": run.last_step, "reason": run.reason, "segments": len(run.segments)}
    if run.status is None:
        reason = "the last segment has no run_end: the run goes on, or it was killed."
        return (Measurement(NAME, None, "status", reason=reason, details=details),)
    source = "run_end" if len(run.segments) == 1 else "run_end of the last segment"
    return (Measurement(NAME, str(run.status), "status", source, details=details),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """Error for a run that failed, warning for one without an end, info for one that was stopped early."""
    (status,) = measurements
    if status.value is None:
        return [_no_end(status)]
    if status.value == RunStatus.OK:
        return []
    step, reason = status.details["last_step"], status.details["reason"].rstrip(".")
    at = ("" if step is None else f" at step {step}") + (f": {reason}" if reason else "")
    failed = status.value == RunStatus.ERROR
    return [
        Finding(
            code="run_error" if failed else "run_aborted",
            severity=Severity.ERROR if failed else Severity.INFO,
            message=f"Training {'ended with an error' if failed else 'was stopped early'}{at}.",
            evidence=dict(status.details),
            advice=(
                "Read the reason; then resume from the last checkpoint, or start again."
                if failed
                else "Nothing to do if that was meant, as with early stopping."
            ),
            basis="run_end says so",
        )
    ]


def _no_end(status: Measurement) -> Finding:
    step = status.details["last_step"]
    last = "" if step is None else f" after step {step}"
    return Finding(
        code="no_run_end",
        severity=Severity.WARNING,
        message=f"There is no run_end{last}: the run goes on, or it was killed.",
        evidence=dict(status.details),
        advice="If no process writes it any more: look for a kill by the system, then resume.",
        confidence=0.6,
        basis="a killed run and a running one look the same in the file",
        caveat="a run that still trains has no run_end either",
    )
