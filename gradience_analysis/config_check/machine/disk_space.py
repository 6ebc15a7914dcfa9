"""Disk space: whether there is room for the checkpoints that are kept.

Measured: bytes that this user may still write to the output folder's disk. Needed are the limit in any case, and,
where save_total_limit is set and the adapter's size is known (`--model`), a factor of all checkpoints together: 12
bytes for each trainable parameter (weight and two Adam moments in float32), 4 with save_only_model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.base_model.lora_size import lora_size
from gradience_analysis.config_check.machine.seen import folder_of
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "disk_low"
CODES: Mapping[str, str] = {CODE: "The free disk space is too small for the checkpoints."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "disk_free"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Free bytes, and the bytes of all checkpoints that are kept."""
    folder = folder_of(subject)
    if isinstance(folder, str):
        return (Measurement(NAME, None, "bytes", reason=folder),)
    if folder.free_bytes is None:
        return (Measurement(NAME, None, "bytes", reason="The system does not say how much space is free."),)
    size, kept = lora_size(subject), subject.number("training.save_total_limit")
    checkpoint: int | None = None
    if not isinstance(size, str):
        checkpoint = (4 if subject.flag("training.save_only_model") else 12) * size.trainable
    details = {
        "path": folder.probed,
        "checkpoint_bytes": checkpoint,
        "kept": kept,
        "checkpoints_bytes": checkpoint * kept if checkpoint is not None and kept and kept > 0 else None,
    }
    return (Measurement(NAME, folder.free_bytes, "bytes", folder.probed, details=details),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error when less is free than is needed."""
    (free,) = measurements
    if free.value is None:
        return []
    least, factor = policy["disk_space.free_bytes"], policy["disk_space.checkpoints"]
    details = free.details
    wanted = factor.value * (details["checkpoints_bytes"] or 0)
    needed = max(least.value, wanted)
    if float(free.value) >= needed:
        return []
    for_them = f" ({factor.value:g} times {details['kept']:g} checkpoints)" if wanted > least.value else ""
    return [
        Finding(
            code=CODE,
            severity=Severity.ERROR,
            message=f"{float(free.value) / 1e9:,.1f} GB are free at {details['path']}, less than "
            f"{needed / 1e9:,.1f} GB{for_them}.",
            evidence=dict(details) | {"free": free.value, "needed": needed},
            advice="Clean up, or keep fewer checkpoints (save_total_limit).",
            confidence=0.7,
            basis=f"the disk at the time of the check; the threshold is {(factor if for_them else least).standing}",
            caveat="A short run of a small adapter takes far less.",
            rule="P02",
        )
    ]
