"""Given names: whether each name for the registry is plain and stays below its root.

A name is a letter or digit, followed by at most 99 letters, digits, dots, underscores and hyphens. A path of such
names must stay below the registry's root and pass through no symlink, which could lead out of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "registry_path_unsafe"
CODES: Mapping[str, str] = {CODE: "A name or path leaves the registry's root, or is a symlink."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "unsafe_names"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Names that are not safe."""
    given = subject.machine.names if subject.machine else ()
    if not given:
        return (Measurement(NAME, None, "names", reason="No name for the registry was given."),)
    unsafe = [
        {"label": one.label, "name": one.name, "root": one.root, "fault": one.fault} for one in given if one.fault
    ]
    details = {"names": len(given), "unsafe": unsafe}
    return (Measurement(NAME, len(unsafe), "names", "the names as given", details=details),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """An error for each of them."""
    (unsafe,) = measurements
    return [_finding(one) for one in unsafe.details.get("unsafe", ())]


def _finding(one: Mapping[str, str]) -> Finding:
    below = f" below {one['root']}" if one["root"] else ""
    return Finding(
        code=CODE,
        severity=Severity.ERROR,
        message=f"{one['label']} {one['name'][:120]!r} is no safe name{below}: {one['fault']}.",
        evidence=dict(one),
        advice="Use a plain name, such as support-bot.v2.",
        confidence=0.95,
        basis="the form of the name and the links on its way",
        rule="Q08",
    )
