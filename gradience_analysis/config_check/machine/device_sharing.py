"""Device sharing: how much of the device's memory is in use before training starts.

Measured: the largest share of memory in use among the devices that the run would use, as nvidia-smi says it. A
desktop takes a few hundred MB; the driver itself a little. Not measured without `--env` or without an NVIDIA device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.machine.seen import devices_of, gib
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "device_shared"
CODES: Mapping[str, str] = {CODE: "Other processes hold memory of the device."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "device_memory_in_use"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The largest share of device memory in use, 0..1."""
    devices = devices_of(subject)
    if isinstance(devices, str):
        return (Measurement(NAME, None, "ratio", reason=devices),)
    shares = [
        (device.used_bytes / device.total_bytes, device)
        for device in devices
        if device.used_bytes is not None and device.total_bytes
    ]
    if not shares:
        return (Measurement(NAME, None, "ratio", reason="The driver does not say how much memory is in use."),)
    share, device = max(shares, key=lambda pair: pair[0])
    details = {
        "device": device.index,
        "name": device.name,
        "used_bytes": device.used_bytes,
        "total_bytes": device.total_bytes,
        "processes": list(device.holders),
    }
    return (Measurement(NAME, share, "ratio", "nvidia-smi", details=details),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning when the share is above the limit."""
    (share,) = measurements
    limit = policy["device_sharing.share"]
    if share.value is None or float(share.value) <= limit.value:
        return []
    details = share.details
    pids = ", ".join(map(str, details["processes"][:5]))
    who = f" by process {pids}" if len(details["processes"]) == 1 else f" by processes {pids}" if pids else ""
    return [
        Finding(
            code=CODE,
            severity=Severity.WARNING,
            message=f"{gib(details['used_bytes'])} of {gib(details['total_bytes'])} of device {details['device']} "
            f"({share.value:.1%}) are in use{who}, above {limit.value:.0%}.",
            evidence=dict(details) | {"share": share.value, "threshold": limit.value},
            advice="Free the device, or pin another one with CUDA_VISIBLE_DEVICES.",
            confidence=0.8,
            basis=f"{share.source} at the time of the check; the threshold is {limit.standing}",
            caveat="It may be free again when training starts.",
            rule="G07",
        )
    ]
