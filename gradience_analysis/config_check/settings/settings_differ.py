"""Sources that disagree: which settings have different values in two of the files?

The first source holds: the configuration over adapter_config.json and training_args.json. Where another one says
something else, one of the two is not what will be trained. What a flag overrides is meant to differ, and is not named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.settings.quantity import shown, where
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Change, Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {"settings_differ": "Two sources give different values of one setting."}
COVERS: Mapping[str, frozenset[str]] = {}
_COMPARED = ("lora.", "optimizer.", "training.")


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Settings of adapter, optimizer and training of which another source has a different value."""
    differing: list[dict[str, str]] = []
    for other in subject.shadowed:
        held = subject.settings[other.key]
        if other.key.startswith(_COMPARED) and not held.name.startswith("--") and not _same(held.value, other.value):
            differing.append(
                {
                    "setting": held.name,
                    "holds": shown(held.raw),
                    "where": where(held),
                    "other": shown(other.raw),
                    "other_where": where(other),
                }
            )
    source = ", ".join(subject.sources)
    details = {"settings": differing}
    if not subject.sources:
        return (Measurement("settings_that_differ", None, "settings", reason="no file was given"),)
    return (Measurement("settings_that_differ", len(differing), "settings", source, details=details),)


def _same(one: object, other: object) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return sorted(map(repr, one)) == sorted(map(repr, other))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return one == other


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A remark for each of them."""
    del policy
    (differing,) = measurements
    return [
        Finding(
            code="settings_differ",
            severity=Severity.INFO,
            message=f"{one['where']} is {one['holds']}, and {one['other_where']} is {one['other']}; "
            "the first was checked.",
            evidence=dict(one),
            confidence=0.8,
            basis="the sources as they are written",
            changes=(Change(one["setting"], one["holds"], "the same in both", "only one of the two will be trained"),),
        )
        for one in differing.details.get("settings", ())
    ]
