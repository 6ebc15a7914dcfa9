"""File system: whether the output folder is on a network or FUSE file system.

Measured: the type of the file system by the table of mounts. On NFS, SMB and most FUSE file systems locks and syncs
are weaker or slow, and a lost connection loses what was not yet sent. Container layers (fuse-overlayfs) are local.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.machine.seen import folder_of
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "network_file_system"
CODES: Mapping[str, str] = {CODE: "The output folder is on a network or FUSE file system."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "file_system"
NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "glusterfs", "gpfs", "lustre", "ncpfs"}
    | {"nfs", "nfs4", "pvfs2", "smb3", "smbfs", "vboxsf", "wekafs"}
)
_LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuse.overlayfs", "fuse.lxcfs", "fuse.squashfuse"})


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The type of the file system."""
    folder = folder_of(subject)
    if isinstance(folder, str):
        return (Measurement(NAME, None, "type", reason=folder),)
    if not folder.file_system:
        return (Measurement(NAME, None, "type", reason="The system does not say the type of its file systems."),)
    details = {"path": folder.probed, "network": is_network(folder.file_system)}
    return (Measurement(NAME, folder.file_system, "type", "the table of mounts", details=details),)


def is_network(kind: str) -> bool:
    """Whether a file system type is one over the network, or FUSE that is not known to be local."""
    return kind in NETWORK or kind == "fuse" or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """A warning for a network or FUSE file system."""
    (kind,) = measurements
    if kind.value is None or not kind.details["network"]:
        return []
    return [
        Finding(
            code=CODE,
            severity=Severity.WARNING,
            message=f"{kind.details['path']} is on a file system of type {kind.value}.",
            evidence=dict(kind.details) | {"type": kind.value},
            advice="Write telemetry and checkpoints to a local disk first, one file a rank, and copy them.",
            confidence=0.7,
            basis=kind.source,
            caveat="Some of these are as safe as a local disk, by how they are mounted.",
            rule="P03",
        )
    ]
