"""Versions: whether the installed libraries are of versions that Gradience was tested with.

Looked at: the versions of torch, transformers, peft and accelerate that are installed beside `gradience`, without
importing them. The tested ranges are data with a date; a version of a later minor number than the last tested one, or
below the lower bound, is named. A library that is not installed here is not judged: training may run elsewhere. The
version of the GPU's driver is shown, but no range of drivers has been tested.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.machine.seen import NOT_LOOKED
from gradience_analysis.config_check.machine.tested import TESTED, TESTED_ON, Range
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "versions_untested"
CODES: Mapping[str, str] = {CODE: "A library is outside the range of versions this was tested with."}
COVERS: Mapping[str, frozenset[str]] = {}
DRIVER = "version_of_driver"
_RELEASE = re.compile(r"v?(\d{1,9})(?:\.(\d{1,9}))?")


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The version of each library, and that of the driver."""
    machine = subject.machine
    if machine is None or not machine.looked:
        return tuple(Measurement(f"version_of_{name}", None, "version", reason=NOT_LOOKED) for name in TESTED)
    found = [
        Measurement(f"version_of_{one.name}", one.version, "version", "installed", details={"library": one.name})
        if one.version is not None
        else Measurement(f"version_of_{one.name}", None, "version", reason=f"{one.name} is not installed here.")
        for one in machine.libraries
    ]
    driver = next((device.driver for device in machine.devices if device.driver), "")
    reason = "" if driver else machine.devices_reason or "The driver does not say its version."
    found.append(Measurement(DRIVER, driver or None, "version", "nvidia-smi" if driver else "", reason))
    return tuple(found)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """One warning that names every library outside its range."""
    outside: dict[str, dict[str, str]] = {}
    for one in measurements:
        name = one.details.get("library")
        tested = TESTED.get(str(name))
        if tested is not None and one.value is not None and not within(str(one.value), tested):
            outside[str(name)] = {"version": str(one.value), "lowest": tested.lowest, "highest": tested.highest}
    if not outside:
        return []
    named = ", ".join(f"{name} {one['version']} ({one['lowest']} to {one['highest']})" for name, one in outside.items())
    return [
        Finding(
            code=CODE,
            severity=Severity.WARNING,
            message=f"Outside the tested range of versions: {named}.",
            evidence={"outside": outside, "tested_on": TESTED_ON},
            advice="Pin the versions, or look at the telemetry of a short run first.",
            confidence=0.5,
            basis=f"installed versions against those tested on {TESTED_ON}",
            caveat="Most newer versions work; none of them was tried.",
            rule="P09",
        )
    ]


def within(version: str, tested: Range) -> bool:
    """Whether a version is in a range, compared by its first two numbers; one that cannot be read counts as inside."""
    own, lowest, highest = (_release(text) for text in (version, tested.lowest, tested.highest))
    return own is None or lowest is None or highest is None or lowest <= own <= highest


def _release(version: str) -> tuple[int, int] | None:
    found = _RELEASE.match(version)
    return (int(found[1]), int(found[2] or 0)) if found else None
