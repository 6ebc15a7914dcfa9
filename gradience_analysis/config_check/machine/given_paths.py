"""Given paths: whether each path given for a file is a regular file.

Looked at, links not followed: what stands at the paths on the command line. A FIFO or a device may never end, a
folder holds no lines, and what a symlink leads to can change between the check and the run. A path that is missing is
said by the check that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.machine.facts import PathFacts
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement, Place
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "path_not_regular"
CODES: Mapping[str, str] = {CODE: "A path that is given for a file is a symlink, a FIFO, a device or a folder."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "irregular_paths"
_FINE: Mapping[str, frozenset[str]] = {
    "file": frozenset({"file", "missing"}),
    "directory": frozenset({"directory", "missing", "symlink", "file"}),  # a link to a folder is ordinary
}


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Paths of another kind than was asked for."""
    given = subject.machine.paths if subject.machine else ()
    if not given:
        return (Measurement(NAME, None, "paths", reason="No paths were given."),)
    wrong = [one for one in given if one.kind not in _FINE.get(one.wanted, _FINE["file"])]
    details = {"paths": len(given), "irregular": [_plain(one) for one in wrong]}
    places = tuple(Place(path=one.path) for one in wrong[:5])
    return (Measurement(NAME, len(wrong), "paths", "lstat", details=details, places=places),)


def _plain(one: PathFacts) -> dict[str, str]:
    return {"label": one.label, "path": one.path, "kind": one.kind, "wanted": one.wanted}


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """An error for each of them."""
    (wrong,) = measurements
    return [_finding(one) for one in wrong.details.get("irregular", ())]


def _finding(one: Mapping[str, str]) -> Finding:
    wanted = "a regular file" if one["wanted"] == "file" else "a folder"
    return Finding(
        code=CODE,
        severity=Severity.ERROR,
        message=f"{one['label']} {one['path']} is a {one['kind']}, not {wanted}.",
        evidence=dict(one),
        advice="Give the path of the file itself.",
        confidence=0.95,
        basis="the kind of the path, links not followed",
        caveat="A link into a cache of models or data is harmless as long as nothing changes it."
        if one["kind"] == "symlink"
        else "",
        rule="Q01",
        places=(Place(path=one["path"]),),
    )
