"""What the training process holds in memory, read without making it wait for the device."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
from pathlib import Path
from typing import Any, Final

__all__ = ["MIB", "read_memory"]

MIB: Final = 1 << 20
"""Bytes of the unit that every ``*_mb`` figure of telemetry/v1 is in."""
_OWN_GROUPS: Final = Path("/proc/self/cgroup")
_GROUPS: Final = Path("/sys/fs/cgroup")


def read_memory() -> dict[str, float]:
    """The process's memory in MiB (2^20 bytes); what cannot be read is left out.

    ``rss_mb`` is the resident set; where the system gives only its maximum so far, that stands as ``rss_peak_mb``.
    ``host_total_mb`` is the machine's memory, and ``rss_limit_mb`` what the control group (the container) may use. The
    device figures are those of torch's own allocator on the current device (``allocated_mb``, ``reserved_mb``,
    ``peak_mb`` since the process started or the user last reset it) and ``total_mb``, the device's memory. They are
    there only when torch is imported and has a device in use; torch is never imported for them.
    """
    return _device_memory() | _resident_memory() | _host_limits()


@functools.cache
def _host_limits() -> dict[str, float]:
    """The machine's memory and the limit of the control group, as far as they can be read; neither changes in a run."""
    limits: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError, AttributeError):
        limits["host_total_mb"] = _mib(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    smallest = min((limit for path in _limit_files() if (limit := _limit_in(path)) is not None), default=None)
    # A group without a limit has none, or one beyond any machine.
    if smallest is not None and _mib(smallest) < limits.get("host_total_mb", math.inf):
        limits["rss_limit_mb"] = _mib(smallest)
    return limits


def _limit_files() -> list[Path]:
    """Where the limits of this process's control groups stand: its own group and those above it, versions 2 and 1."""
    found: list[Path] = []
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return found
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        group = Path(name.lstrip("/"))
        if not controllers:
            found += [_GROUPS / above / "memory.max" for above in (group, *group.parents)]
        elif "memory" in controllers.split(","):
            found += [_GROUPS / "memory" / above / "memory.limit_in_bytes" for above in (group, *group.parents)]
    return found


def _limit_in(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no such group, or "max"
        return None


def _resident_memory() -> dict[str, float]:
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return _resident_peak()
    return {"rss_mb": _mib(pages * os.sysconf("SC_PAGE_SIZE"))}


def _resident_peak() -> dict[str, float]:
    try:
        import resource
    except ImportError:  # Windows
        return {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"rss_peak_mb": _mib(peak if sys.platform == "darwin" else peak * 1024)}


def _device_memory() -> dict[str, float]:
    torch: Any = sys.modules.get("torch")
    for name in ("cuda", "xpu"):
        backend = getattr(torch, name, None)
        if backend is not None and backend.is_available() and backend.is_initialized():
            return _caching_allocator(backend)
    return {} if torch is None else _metal(torch)


def _caching_allocator(backend: Any) -> dict[str, float]:
    stats = backend.memory_stats()  # bookkeeping of the host: no synchronisation
    readings = {
        "allocated_mb": stats.get("allocated_bytes.all.current"),
        "reserved_mb": stats.get("reserved_bytes.all.current"),
        "peak_mb": stats.get("allocated_bytes.all.peak"),
        "total_mb": backend.get_device_properties(backend.current_device()).total_memory,
    }
    return {name: _mib(value) for name, value in readings.items() if value is not None}


def _metal(torch: Any) -> dict[str, float]:
    if not torch.backends.mps.is_available():
        return {}
    return {
        "allocated_mb": _mib(torch.mps.current_allocated_memory()),
        "reserved_mb": _mib(torch.mps.driver_allocated_memory()),
    }


def _mib(size: float) -> float:
    return round(size / MIB, 3)
