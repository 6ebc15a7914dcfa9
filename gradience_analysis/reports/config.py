"""What `gradience config show` says: the options and thresholds in force, each with its source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from gradience_analysis.model import Note, Report, Section, Table, plural
from gradience_analysis.policy import Policy, Threshold
from gradience_schema import Severity

SCHEMA = "gradience.config/v1"


class OptionRow(NamedTuple):
    """An option: its name, its value in words (None when nothing sets it), where that comes from, what it decides."""

    name: str
    value: str | None
    source: str
    meaning: str


def config_report(options: Sequence[OptionRow], policy: Policy, default: Policy) -> Report:
    """The options, and every threshold with its value, unit and source; those that differ from the default say so."""
    given = sum(row.value is not None for row in options)
    calibrated = sum(one.calibrated for one in policy.thresholds.values())
    text = f"{plural(given, 'option')} set; {len(policy.thresholds)} thresholds, {calibrated} of them calibrated."
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "options": [row._asdict() for row in options],
        "policy_version": policy.version,
        "thresholds": {name: _data(one) for name, one in policy.thresholds.items()},
    }
    sections = (
        Section(
            "Options",
            (Table(("option", "value", "source"), tuple((r.name, r.value or "-", r.source) for r in options)),),
        ),
        Section(
            "Thresholds",
            (
                Table(
                    ("threshold", "value", "source", "unit"),
                    tuple(
                        (name, f"{one.value:g}", _standing(one, default[name]), one.unit)
                        for name, one in policy.thresholds.items()
                    ),
                    frozenset({"value"}),
                ),
            ),
        ),
    )
    return Report("config", "options and thresholds", Note(Severity.INFO, text), sections, data)


def _standing(threshold: Threshold, default: Threshold) -> str:
    if threshold != default:
        return f"{threshold.source} (default {default.value:g})"
    return "calibrated" if threshold.calibrated else "proposed"


def _data(threshold: Threshold) -> dict[str, Any]:
    return {
        "value": threshold.value,
        "unit": threshold.unit,
        "meaning": threshold.meaning,
        "source": threshold.source,
        "calibrated": threshold.calibrated,
    }
