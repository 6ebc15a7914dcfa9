"""Target modules: does the adapter go anywhere?

An empty list of target modules leaves nothing to train, and is an error. Where none is set at all, the library chooses
by the model's type, and stops for a type that it does not know: a warning. Nothing is said when there is no adapter,
or when `target_parameters` names what it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from gradience_analysis.config_check.settings.quantity import BY_DEFINITION, shown, where
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Change, Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "targets_missing": "The adapter has no target modules: an empty list, something else than names, or none set."
}
COVERS: Mapping[str, frozenset[str]] = {"targets_missing": frozenset({"targets_match_nothing"})}
_ADAPTER = ("lora.r", "lora.alpha", "lora.target_modules")
_EVERYWHERE = "all-linear, or names"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """How many names or patterns of target modules there are."""
    name, unit = "lora_targets", "names"
    if not any(key in subject.settings for key in _ADAPTER):
        return (Measurement(name, None, unit, reason="no adapter is configured; give --peft"),)
    setting = subject.settings.get("lora.target_modules")
    elsewhere = bool(subject.value("lora.target_parameters"))
    if setting is None or setting.value is None:
        details: dict[str, Any] = {"fault": "unset", "setting": "target_modules", "elsewhere": elsewhere}
        return (Measurement(name, None, unit, reason="no target modules are set", details=details),)
    value = cast("object", setting.value)
    details = {"setting": setting.name, "written": shown(setting.raw), "elsewhere": elsewhere}
    details["fault"] = _fault(value)
    count = len(cast("list[Any]", value)) if isinstance(value, list | tuple) else 1
    return (Measurement(name, count, unit, where(setting), details=details),)


def _fault(value: object) -> str:
    if isinstance(value, str):
        return "" if value.strip() else "empty"
    if not isinstance(value, list | tuple):
        return "type"
    names = cast("list[object]", value)
    if not names:
        return "empty"
    return "" if all(isinstance(one, str) and one for one in names) else "type"


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error for targets that are none, a warning when the choice is left to the library."""
    del policy
    (targets,) = measurements
    fault = targets.details.get("fault", "")
    if not fault or targets.details["elsewhere"]:
        return []
    setting, written = targets.details["setting"], targets.details.get("written", "not set")
    if fault == "unset":
        severity, message = Severity.WARNING, "No target modules are set for the adapter."
    elif fault == "empty":
        severity, message = Severity.ERROR, f"The list of target modules is empty ({targets.source})."
    else:
        severity = Severity.ERROR
        message = f"The target modules are {written} ({targets.source}); they must be names."
    return [
        Finding(
            code="targets_missing",
            severity=severity,
            message=message,
            evidence={"setting": setting, "value": written},
            advice="Look up the names of the linear layers in the model; --model DIR checks them against it.",
            confidence=0.7 if fault == "unset" else 1.0,
            basis=BY_DEFINITION,
            caveat="PEFT chooses modules by itself for model types that it knows." if fault == "unset" else "",
            changes=(Change(setting, written, _EVERYWHERE, "recent work favours all linear layers"),),
        )
    ]
