"""Restraint: what cautious advice says about these settings for the declared kind of task, before the run.

The measurements and the advice are those of the diagnostic `restraint`, taken from the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.diagnostics import restraint
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy

CODES: Mapping[str, str] = restraint.CODES
COVERS: Mapping[str, frozenset[str]] = restraint.COVERS
_ASKED = ("lora.", "optimizer.")


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The settings that the advice looks at; none where neither adapter nor optimizer is configured."""
    if not any(key.startswith(_ASKED) for key in subject.settings):
        return ()
    return restraint.measure_config(subject.config)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """The advice."""
    return restraint.judge(measurements, policy) if measurements else []
