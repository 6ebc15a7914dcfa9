"""Output folder: whether the run can write where it is to write.

Tried: a file of a name of its own is created, written, synced and removed in the folder, or, where it does not exist
yet, in the nearest folder above it that does. Not measured without `--env` or without a folder that the user named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.machine.seen import folder_of
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "output_not_writable"
CODES: Mapping[str, str] = {CODE: "A file cannot be written, synced and removed in the output folder."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "output_writable"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """1 when the folder took a file, else 0."""
    folder = folder_of(subject)
    if isinstance(folder, str):
        return (Measurement(NAME, None, "probes", reason=folder),)
    details = {"path": folder.path, "probed": folder.probed, "fault": folder.write_fault}
    return (Measurement(NAME, int(not folder.write_fault), "probes", folder.probed, details=details),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """An error when it took none."""
    (writable,) = measurements
    if writable.value != 0:
        return []
    details = writable.details
    return [
        Finding(
            code=CODE,
            severity=Severity.ERROR,
            message=f"Nothing can be written to {details['path']}: {details['fault']}.",
            evidence=dict(details),
            advice="Fix the permissions, or name another folder.",
            confidence=0.95,
            basis=f"a file was tried in {details['probed'] or details['path']}",
            caveat="Another user or another machine may be allowed to.",
            rule="P01",
        )
    ]
