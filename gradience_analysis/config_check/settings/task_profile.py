"""Task profile: is it one of the four?

A profile that does not exist is taken as `unknown`, and the advice that depends on it is then not given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.settings.quantity import shown, where
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Change, Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity, TaskProfile

CODES: Mapping[str, str] = {"task_profile_unknown": "The task profile is none that exists."}
COVERS: Mapping[str, frozenset[str]] = {}
PROFILES = tuple(str(profile) for profile in TaskProfile)


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The profile as it is set."""
    setting = subject.settings.get("task_profile")
    if setting is None or setting.value is None:
        reason = "not set; set task_profile, or give --task-profile"
        return (Measurement("declared_profile", None, "name", reason=reason),)
    details = {"setting": setting.name, "where": where(setting), "known": setting.value in PROFILES}
    return (Measurement("declared_profile", shown(setting.raw), "name", where(setting), details=details),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning for a profile that does not exist."""
    del policy
    (profile,) = measurements
    if profile.details.get("known", True):
        return []
    return [
        Finding(
            code="task_profile_unknown",
            severity=Severity.WARNING,
            message=f"The task profile is {profile.value} ({profile.source}), which is none of the four.",
            evidence={"setting": profile.details["setting"], "value": profile.value},
            basis="the four names of the contract",
            changes=(
                Change(profile.details["setting"], str(profile.value), ", ".join(PROFILES), "the advice depends on it"),
            ),
        )
    ]
