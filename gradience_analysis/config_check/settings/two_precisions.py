"""Precision: are fp16 and bf16 both on?

The trainer takes one of the two and stops when both are set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.settings.quantity import BY_DEFINITION, shown, where
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Change, Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {"two_precisions": "fp16 and bf16 are both set."}
COVERS: Mapping[str, frozenset[str]] = {}


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """How many of the two are on."""
    settings = [subject.settings[key] for key in ("training.fp16", "training.bf16") if key in subject.settings]
    if not settings:
        return (Measurement("mixed_precisions", None, "switches", reason="neither fp16 nor bf16 is set"),)
    on = [setting for setting in settings if setting.value is True]
    details = {"on": [where(setting) for setting in on], "written": {one.name: shown(one.raw) for one in settings}}
    source = ", ".join(where(setting) for setting in settings)
    return (Measurement("mixed_precisions", len(on), "switches", source, details=details),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error when both are on."""
    del policy
    (both,) = measurements
    if both.value != 2:
        return []
    return [
        Finding(
            code="two_precisions",
            severity=Severity.ERROR,
            message=f"fp16 and bf16 are both on ({' and '.join(both.details['on'])}).",
            evidence=dict(both.details["written"]),
            basis=BY_DEFINITION,
            rule="C08",
            changes=(Change("fp16", "true", "false", "bf16 needs no loss scaling, where the device has it"),),
        )
    ]
