"""Device: whether the accelerator reported a fault of itself.

Looked at are the reason of `run_end`, the alerts from warning up, and `metrics` of kind `device`:

- texts that name an Xid, an uncorrectable ECC error, a device that is lost or has fallen off the bus,
  over-temperature or a thermal shutdown, an illegal memory access, an unspecified launch failure, or an unhandled
  device error of NCCL;
- counters whose name holds `xid`, or `ecc` with `uncorrect` or `double_bit`: any number above 0, and of one that
  counts over the life of the device (`aggregate`, `lifetime`, `total` in its name) only what it rose by during the
  run;
- `temperature_c` above `temperature_limit_c` where that is logged, else above the limit of the policy.

Any of them is a finding (G10). An illegal memory access may be a fault of a kernel and not of the device; the caveat
says so. Assertions of kernels (an index out of range) are no fault of a device and are not looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from gradience_analysis.model import Finding, Measurement, Place, Run, as_number, plural
from gradience_analysis.policy import Policy
from gradience_analysis.telemetry.readings import Reading, complaints, readings
from gradience_schema import Severity

CODES: Mapping[str, str] = {"device_fault": "The device reported a fault."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "device_faults"
_NAMED: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.IGNORECASE)
    for name, pattern in {
        "Xid": r"\bxid\b",
        "uncorrectable ECC error": r"uncorrect(able|ed)\W.{0,40}\becc\b|\becc\b.{0,40}uncorrect|double[- ]bit"
        r"|row[- ]remap\w* fail",
        "device lost": r"(gpu|device) (is|was) lost|fallen off the bus|cudaErrorDeviceLost|device not ready: lost",
        "over-temperature": r"over[-_ ]?temperature|thermal (shutdown|trip)|overheat",
        "hardware error": r"hardware (error|failure|fault)|unspecified launch failure|uncorrectable nvlink",
        "NCCL device error": r"(nccl|rccl).{0,200}unhandled (cuda|device|hip|system) error"
        r"|unhandled (cuda|device|hip|system) error.{0,200}(nccl|rccl)",
        "illegal memory access": r"illegal (memory access|address)|illegaladdress",
    }.items()
}
_COUNTER = re.compile(r"xid|ecc.*(uncorrect|double_bit|dbe)|(uncorrect|double_bit|dbe).*ecc", re.IGNORECASE)
_LIFELONG = re.compile(r"aggregate|lifetime|total", re.IGNORECASE)
_KERNEL = frozenset({"illegal memory access"})
_PLACES = 5


def measure(run: Run) -> tuple[Measurement, ...]:
    """Number of faults that were named or counted, and the highest temperature."""
    named: dict[str, list[Place]] = {}
    for item in complaints(run):
        for name, pattern in _NAMED.items():
            if pattern.search(item.text):
                named.setdefault(name, []).append(item.place)
    device = readings(run, "device")
    for process in device:
        for name, place in _counted(process):
            named.setdefault(name, []).append(place)
    places = [place for several in named.values() for place in several]
    details = {"faults": {name: len(several) for name, several in named.items()}}
    source = "run_end.reason, alerts, metrics of kind device"
    return (
        Measurement(NAME, len(places), "faults", source, details=details, places=tuple(places[:_PLACES])),
        _temperature([reading for process in device for reading in process]),
    )


def _counted(process: Sequence[Reading]) -> Iterator[tuple[str, Place]]:
    """Each counter of a process that shows a fault, with the first record that does."""
    names = {name: None for reading in process for name in reading.values if _COUNTER.search(name)}
    for name in names:
        values = [(reading, number) for reading in process if (number := _number(reading.values.get(name))) is not None]
        base = values[0][1] if values and _LIFELONG.search(name) else 0
        first = next((reading for reading, number in values if number > base), None)
        if first is not None:
            yield name[:80], first.place


def _number(value: Any) -> float | int | None:
    """A counter: a number, or the length of a list of events."""
    return len(cast("list[object]", value)) if isinstance(value, list) else as_number(value)


def _temperature(found: Sequence[Reading]) -> Measurement:
    values = [
        (number, _number(reading.values.get("temperature_limit_c")), reading)
        for reading in found
        if (number := as_number(reading.values.get("temperature_c"))) is not None
    ]
    if not values:
        reason = "no temperature was logged. Log metrics of kind device with temperature_c."
        return Measurement("device_temperature", None, "°C", reason=reason)
    # What is nearest to its limit, or over it by most.
    hottest, limit, reading = max(values, key=lambda item: item[0] - (item[1] or 0.0))
    details = {"limit_c": limit, "step": reading.step}
    source = "temperature_c of metrics of kind device"
    return Measurement("device_temperature", hottest, "°C", source, details=details, places=(reading.place,))


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error for any fault of the device, over-temperature included."""
    faults, temperature = measurements
    counts: dict[str, int] = dict(faults.details["faults"])
    places = faults.places
    limit = policy.limit("device.temperature")
    if isinstance(temperature.value, int | float):
        own = temperature.details["limit_c"]
        if temperature.value > (limit if own is None else own):
            counts["over-temperature"] = counts.get("over-temperature", 0) + 1
            places = (*places, *temperature.places)[:_PLACES]
    if not counts:
        return []
    named = ", ".join(name if number == 1 else f"{name} ({number} times)" for name, number in counts.items())
    kernel_only = counts.keys() <= _KERNEL
    return [
        Finding(
            code="device_fault",
            rule="G10",
            severity=Severity.ERROR,
            message=f"The device reported {plural(sum(counts.values()), 'fault')}: {named}.",
            evidence={"faults": counts, "temperature_c": temperature.value},
            advice=(
                "Stop, and try the same run on another device before anything else is changed; if it comes again "
                "there, look at custom kernels."
                if kernel_only
                else "Stop, keep the last checkpoint from before it, and go on with another device or host."
            ),
            confidence=0.6 if kernel_only else 0.9,
            basis="the run or the device says so",
            caveat="a fault of a kernel looks the same" if kernel_only else "",
            places=places,
        )
    ]
