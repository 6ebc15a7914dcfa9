"""GPUs without torch: what `nvidia-smi` says of those that a run started here would see."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Iterable
from typing import NamedTuple

from gradience_analysis.config_check.machine.facts import DeviceFacts

SECONDS = 5.0
_COLUMNS = ("index", "uuid", "name", "memory.total", "memory.used", "memory.free", "compute_cap", "driver_version")
_MIB = 1 << 20


class Devices(NamedTuple):
    """The GPUs, or why there are none."""

    found: tuple[DeviceFacts, ...]
    reason: str = ""


def gather_devices() -> Devices:
    """The NVIDIA devices that CUDA_VISIBLE_DEVICES leaves to see."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return Devices((), "No device was found: nvidia-smi is not installed here.")
    rows = _query(program, f"--query-gpu={','.join(_COLUMNS)}")
    if rows is None:
        return Devices((), f"No device was found: nvidia-smi failed, or took longer than {SECONDS:g} s.")
    every = [row for row in rows if len(row) == len(_COLUMNS)]
    seen = _visible(every, os.environ.get("CUDA_VISIBLE_DEVICES"))
    if not seen:
        return Devices((), "No device was found: nvidia-smi lists none that CUDA_VISIBLE_DEVICES leaves to see.")
    holders = _query(program, "--query-compute-apps=gpu_uuid,pid") or []
    return Devices(tuple(_device(row, holders) for row in seen))


def _query(program: str, question: str) -> list[list[str]] | None:
    command = [program, question, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=True)  # noqa: S603 - from PATH
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return [[cell.strip() for cell in row] for row in csv.reader(lines) if row]


def _visible(rows: list[list[str]], wanted: str | None) -> list[list[str]]:
    """As CUDA reads the variable: numbers or (starts of) ids, up to the first that names no device."""
    if wanted is None:
        return rows
    seen: list[list[str]] = []
    for entry in (part.strip() for part in wanted.split(",")):
        found = next((row for row in rows if entry and (row[0] == entry or row[1].startswith(entry))), None)
        if found is None:
            break
        seen.append(found)
    return seen


def _device(row: list[str], holders: Iterable[list[str]]) -> DeviceFacts:
    index, uuid, name, total, used, free, capability, driver = row
    return DeviceFacts(
        index=int(index) if index.isdigit() else 0,
        name=name,
        total_bytes=_bytes(total),
        used_bytes=_bytes(used),
        free_bytes=_bytes(free),
        compute_capability=_number(capability),
        driver=driver,
        holders=tuple(
            int(pid) for owner, pid, *_ in (h for h in holders if len(h) > 1) if owner == uuid and pid.isdigit()
        ),
    )


def _bytes(mebibytes: str) -> int | None:
    number = _number(mebibytes)
    return None if number is None else int(number * _MIB)


def _number(text: str) -> float | None:
    """A plain decimal number; None for `[N/A]` and the like."""
    return float(text) if text.isascii() and text.replace(".", "", 1).isdigit() else None
