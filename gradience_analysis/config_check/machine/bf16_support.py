"""bfloat16 support: whether the device computes in bfloat16, when the configuration asks for it.

Measured: the lowest compute capability among the devices that the run would use, as nvidia-smi says it. bfloat16
arithmetic takes 8.0; below it a recent PyTorch emulates it slowly, an older one stops. Not measured without `--env`,
without an NVIDIA device, or when bfloat16 is not asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.machine.seen import devices_of, wants_bf16
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Change, Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "bf16_unsupported"
CODES: Mapping[str, str] = {CODE: "bfloat16 is asked for, and the device does not support it."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "compute_capability"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The lowest compute capability of the devices to be used."""
    devices = devices_of(subject)
    if isinstance(devices, str):
        return (Measurement(NAME, None, "compute capability", reason=devices),)
    known = [device for device in devices if device.compute_capability is not None]
    if not known:
        reason = "The driver does not say the compute capability."
        return (Measurement(NAME, None, "compute capability", reason=reason),)
    lowest = min(known, key=lambda device: device.compute_capability or 0.0)
    details = {"device": lowest.index, "name": lowest.name, "wanted": wants_bf16(subject)}
    return (Measurement(NAME, lowest.compute_capability, "compute capability", "nvidia-smi", details=details),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error when bfloat16 is asked for and the capability is below the limit."""
    (capability,) = measurements
    limit = policy["bf16_support.compute_capability"]
    if capability.value is None or not capability.details["wanted"] or float(capability.value) >= limit.value:
        return []
    details = capability.details
    return [
        Finding(
            code=CODE,
            severity=Severity.ERROR,
            message=f"bfloat16 is asked for, and device {details['device']} ({details['name']}) has compute capability "
            f"{capability.value}, below {limit.value:.1f}.",
            evidence=dict(details) | {"compute_capability": capability.value, "threshold": limit.value},
            advice="Use fp16 or fp32.",
            confidence=0.9,
            basis=f"{capability.source}; {limit.source}",
            caveat="A recent PyTorch emulates bfloat16 on older devices, slowly.",
            rule="G02",
            changes=(
                Change("training.bf16", "true", "false, with fp16 true", "The device has no bfloat16 arithmetic."),
            ),
        )
    ]
