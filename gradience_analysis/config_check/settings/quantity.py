"""What the checks of one number have in common: taking it with what was written, and saying where it stands."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gradience_analysis.config_check.subject import Preflight, Setting
from gradience_analysis.model import Change, Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

BY_DEFINITION = "the setting as it is written"
_SHOWN_CHARS = 48


def take(
    subject: Preflight, key: str, name: str, unit: str, *, whole: bool = False, absent: str = "not set"
) -> Measurement:
    """A setting that must be a number.

    Its `details` name the `setting`, its `source`, what is `written` there, and the `fault` when it is no number:
    `null`, `text`, `flag`, `list`, `not whole`, or `not finite`.

    Args:
        subject: What is checked.
        key: Canonical name of the setting.
        name: Name of the measurement.
        unit: Its unit.
        whole: Whether it must be an integer.
        absent: Why there is no value when it is not set, and how to get one.
    """
    setting = subject.settings.get(key)
    if setting is None:
        return Measurement(name, None, unit, reason=absent)
    fault = _fault(setting.value, whole=whole)
    details = {"setting": setting.name, "source": setting.source, "written": shown(setting.raw), "fault": fault}
    value = setting.value
    if fault in {"", "not whole", "not finite"}:
        return Measurement(name, value, unit, source=where(setting), details=details)
    return Measurement(name, None, unit, source=where(setting), reason=_REASONS[fault], details=details)


def in_words(measurement: Measurement) -> str:
    """What is written there, and what that is when it is no number: `the text "16"`."""
    written, fault = measurement.details["written"], measurement.details["fault"]
    kind = {"text": "the text ", "list": "the value "}.get(fault, "")
    return f"{kind}{written}"


def where(setting: Setting) -> str:
    """Where a setting stands: `lora_r in config.yaml`; a flag by its name."""
    return setting.name if setting.name.startswith("--") else f"{setting.name} in {setting.source}"


def shown(value: object) -> str:
    """A value as it would stand in a file, cut to what fits in a sentence."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    text = json.dumps(value, default=str)
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 3]}..."


def spelled(value: float) -> str:
    """A number as people write it: `1e-6`, `0.0003`, `16`."""
    return f"{value:g}".replace("e-0", "e-").replace("e+0", "e+")


def change(measurement: Measurement, suggested: str, why: str) -> Change:
    """Another value to try for the setting of a measurement."""
    return Change(measurement.details["setting"], measurement.details["written"], suggested, why)


def evidence(measurement: Measurement, **limits: Any) -> dict[str, Any]:
    """The setting and what it was held against."""
    details = measurement.details
    return {"setting": details["setting"], "source": details["source"], "value": details["written"], **limits}


def broken(  # noqa: PLR0917
    measurement: Measurement, code: str, rule: str, message: str, suggested: str, why: str, **limits: Any
) -> Finding:
    """The finding that a setting cannot be used as it is: an error that needs no threshold."""
    return Finding(
        code=code,
        severity=Severity.ERROR,
        message=message,
        evidence=evidence(measurement, **limits),
        confidence=1.0,
        basis=BY_DEFINITION,
        rule=rule,
        changes=(change(measurement, suggested, why),),
    )


def standing(policy: Policy, *names: str) -> str:
    """What a range rests on: `policy limits rank.lowest, rank.highest (not calibrated)`."""
    words = sorted({policy[name].standing for name in names})
    noun = "limit" if len(names) == 1 else "limits"
    return f"policy {noun} {', '.join(names)} ({', '.join(words)})"


def by_name(measurements: Sequence[Measurement]) -> Mapping[str, Measurement]:
    """Measurements by their names."""
    return {one.name: one for one in measurements}


def usable(measurement: Measurement) -> float | int | None:
    """The value of a measurement when it is a number that one can count with, else None."""
    value = measurement.value
    if isinstance(value, bool) or not isinstance(value, int | float) or measurement.details.get("fault"):
        return None
    return value


def _fault(value: object, *, whole: bool) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, str):
        return "text"
    if not isinstance(value, int | float):
        return "list"
    if isinstance(value, float) and not math.isfinite(value):
        return "not finite"
    return "not whole" if whole and isinstance(value, float) else ""


_REASONS: Mapping[str, str] = {
    "null": "is null; give a number",
    "flag": "is true or false; give a number",
    "text": "is a text; give a number without quotes",
    "list": "is a list or a mapping; give one number",
}
