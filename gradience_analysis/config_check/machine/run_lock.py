"""Run lock: whether a live process is writing a run in the output folder already.

Measured: files `run*.jsonl` in the folder whose writer's lock is held. The kernel's own list of locks is read, and a
shared lock asked for an instant where that list shows none, since it leaves out other containers. A second run in the
folder would take the next file name, so nothing is lost, but checkpoints of both would overwrite each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.machine.seen import folder_of
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement, Place
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "run_locked"
CODES: Mapping[str, str] = {CODE: "Another live process holds the run."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "locked_files"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Files of runs in the output folder that a live process holds."""
    folder = folder_of(subject)
    if isinstance(folder, str):
        return (Measurement(NAME, None, "files", reason=folder),)
    if not folder.locks_seen and not folder.held:
        return (Measurement(NAME, None, "files", reason="This system does not show locks."),)
    held = [{"path": one.path, "pid": one.pid} for one in folder.held]
    places = tuple(Place(path=one.path) for one in folder.held[:5])
    return (Measurement(NAME, len(held), "files", "locks", details={"held": held}, places=places),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """An error when there is one."""
    (locked,) = measurements
    if not locked.value:
        return []
    held = locked.details["held"]
    first, others = held[0], len(held) - 1
    who = f"process {first['pid']}" if first["pid"] else "a process that is not to be seen from here"
    more = f" ({others} more {'is' if others == 1 else 'are'} held)" if others else ""
    return [
        Finding(
            code=CODE,
            severity=Severity.ERROR,
            message=f"{first['path']} is being written by {who}{more}.",
            evidence=dict(locked.details),
            advice="Use a new output folder or run id, or stop the other process.",
            confidence=0.9,
            basis="the lock that a writer of telemetry holds",
            rule="P06",
            places=locked.places,
        )
    ]
