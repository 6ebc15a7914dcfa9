"""Keys: is there one that looks like a slip?

A key that means nothing here, but is within two edits of one that does, is a finding: the program that reads the file
may pass over it in silence and train with its default. Other unknown keys are counted and listed, and nothing is said
of them. A key of your own that resembles a known one is reported all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Change, Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {"unknown_key": "A key is unknown, and nearly one that is known."}
COVERS: Mapping[str, frozenset[str]] = {}
_SHOWN = 20
_LONGEST = 80


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Keys that mean nothing here, each with what it may have meant."""
    if not subject.sources:
        return (Measurement("unknown_keys", None, "keys", reason="no file was given"),)
    slips = [
        {"key": one.name[:_LONGEST], "source": one.source, "meant": one.meant} for one in subject.unknown if one.meant
    ]
    others = [one.name[:_LONGEST] for one in subject.unknown if not one.meant]
    details = {"slips": slips[:_SHOWN], "others": others[:_SHOWN], "slips_in_all": len(slips)}
    return (Measurement("unknown_keys", len(subject.unknown), "keys", ", ".join(subject.sources), details=details),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning for each key that is nearly a known one."""
    del policy
    (keys,) = measurements
    return [
        Finding(
            code="unknown_key",
            severity=Severity.WARNING,
            message=f"{slip['key']} in {slip['source']} means nothing here, and is nearly {slip['meant']}.",
            evidence=dict(slip),
            confidence=0.8,
            basis="a known key within two edits",
            caveat="A program of your own may have a setting of that name.",
            rule="C09",
            changes=(Change(slip["key"], "unknown", slip["meant"], "an unknown key may be passed over in silence"),),
        )
        for slip in keys.details.get("slips", ())
    ]
