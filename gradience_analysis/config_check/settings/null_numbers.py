"""Null: is a setting null that must be a number?

A trainer compares these settings with numbers and stops at a null. In the layout of `run_start.config` a null says
that a value is not known; there it is a finding for the learning rate, and for rank or alpha when the other is set.
`max_steps` or the epochs may be null in a configuration where the other of the two decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.keys import NUMBERS
from gradience_analysis.config_check.settings.quantity import BY_DEFINITION, shown, where
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Change, Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {"null_number": "A setting that must be a number is null."}
COVERS: Mapping[str, frozenset[str]] = {}
_LENGTHS = frozenset({"training.max_steps", "training.epochs"})


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Settings that are null where a number belongs."""
    asked = [setting for key, setting in subject.settings.items() if key in NUMBERS]
    if not asked:
        return (Measurement("null_numbers", None, "settings", reason="no setting with a number was given"),)
    lengths = [subject.value(key) for key in _LENGTHS]
    # Without either of the two that is the finding; then null adds nothing to it.
    excused: frozenset[str] = _LENGTHS if lengths == [None, None] else frozenset()
    nulls = [one for one in asked if one.value is None and one.key not in excused]
    details = {"nulls": [{"setting": one.name, "where": where(one), "written": shown(one.raw)} for one in nulls]}
    return (Measurement("null_numbers", len(nulls), "settings", "the configuration", details=details),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error for each of them."""
    del policy
    (nulls,) = measurements
    return [
        Finding(
            code="null_number",
            severity=Severity.ERROR,
            message=f"{one['where']} is {one['written']} where a number belongs.",
            evidence=dict(one),
            basis=BY_DEFINITION,
            rule="V02",
            changes=(
                Change(one["setting"], one["written"], "a number, or no such key", "without the key the default holds"),
            ),
        )
        for one in nulls.details.get("nulls", ())
    ]
