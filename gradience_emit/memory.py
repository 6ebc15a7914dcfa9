"""What the training process holds in memory, read without making it wait for the device; and how to free some of it."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gradience_emit.boundary import attempt

__all__ = ["MIB", "clean_up_device_memory", "read_memory"]

MIB: Final = 1 << 20
"""Bytes of the unit that every ``*_mb`` figure of telemetry/v1 is in."""
_OWN_GROUPS: Final = Path("/proc/self/cgroup")
_GROUPS: Final = Path("/sys/fs/cgroup")
_MUCH: Final = 0.5
"""The share of the device's memory that a clean-up warns of when it stays in use."""
_logger = logging.getLogger("gradience_emit")


def read_memory() -> dict[str, float]:
    """The process's memory in MiB (2^20 bytes); what cannot be read is left out.

    ``rss_mb`` is the resident set; where the system gives only its maximum so far, that stands as ``rss_peak_mb``.
    ``host_total_mb`` is the machine's memory, and ``rss_limit_mb`` what the control group (the container) may use. The
    device figures are those of torch's own allocator on the current device (``allocated_mb``, ``reserved_mb``,
    ``peak_mb`` since the process started or the user last reset it) and ``total_mb``, the device's memory. They are
    there only when torch is imported and has a device in use; torch is never imported for them.
    """
    return _device_memory() | _resident_memory() | _host_limits()


def clean_up_device_memory() -> dict[str, float]:
    """Free what nothing refers to any more; log and return what is then in memory, in MiB (2^20 bytes).

    Garbage is collected, the cache of torch's allocator on the device in use (cuda, xpu or mps) is emptied, and the
    device is waited for. That takes a while, and what was in the cache must be asked of the driver again: it belongs
    between trainings, not into a step. What something still refers to stays.

    The figures are those of `read_memory`, and with a device also ``freed_mb``, by how much torch's reserve became
    smaller, and ``used_mb``, what is in use of ``total_mb``. On cuda and xpu that counts all processes on the device.
    On mps, and where the driver does not tell, it is the reserve of this process alone; the total on mps is what Metal
    recommends as the most. A warning is logged when more than half of the total stays in use.

    Without torch imported (it is never imported here), or without a device in use, the figures are the host's. Nothing
    raises: a device that fails is a warning, and its figures are left out.
    """
    gc.collect()
    device = attempt(_clean_up_device, _device_failed)
    figures = device | _resident_memory() | _host_limits()
    _logger.info("memory after a clean-up: %s", ", ".join(f"{name} {mib:,.0f}" for name, mib in figures.items()))
    used, total = device.get("used_mb", 0.0), device.get("total_mb", 0.0)
    if used > _MUCH * total > 0.0:
        _logger.warning(
            "after a clean-up, %s of the device's %s MiB (%.0f%%) are still in use: torch has reserved %s of them in "
            "this process, %s for living tensors; the rest is the driver's and other processes'",
            *(f"{used:,.0f}", f"{total:,.0f}", 100.0 * used / total),
            *(f"{device['reserved_mb']:,.0f}", f"{device['allocated_mb']:,.0f}"),
        )
    return figures


def _clean_up_device() -> dict[str, float]:
    """Empty the cache of the device in use and wait for it; its figures, empty without one."""
    backend = _backend_in_use()
    if backend is None:
        return {}
    before = _device_memory()["reserved_mb"]
    backend.empty_cache()
    backend.synchronize()
    figures = _device_memory()
    return figures | {"freed_mb": round(before - figures["reserved_mb"], 3)} | _in_use(backend, figures)


def _in_use(backend: Any, figures: Mapping[str, float]) -> dict[str, float]:
    """``used_mb``, and where the device itself says how large it is, ``total_mb``."""
    reserved = {"used_mb": figures["reserved_mb"]}
    if hasattr(backend, "recommended_max_memory"):
        return reserved | {"total_mb": _mib(backend.recommended_max_memory())}

    def ask_the_driver() -> dict[str, float]:
        free, total = backend.mem_get_info()
        return {"used_mb": _mib(total - free), "total_mb": _mib(total)}

    return attempt(ask_the_driver, lambda _: reserved)


def _device_failed(fault: Exception) -> dict[str, float]:
    _logger.warning("the device's memory could not be cleaned up", exc_info=fault)
    return {}


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


def _backend_in_use() -> Any | None:
    """``torch.cuda``, ``torch.xpu`` or ``torch.mps``, whichever drives the device in use; None without one."""
    torch: Any = sys.modules.get("torch")
    for name in ("cuda", "xpu"):
        backend = getattr(torch, name, None)
        if backend is not None and backend.is_available() and backend.is_initialized():
            return backend
    return torch.mps if torch is not None and torch.backends.mps.is_available() else None


def _device_memory() -> dict[str, float]:
    backend = _backend_in_use()
    if backend is None:
        return {}
    return _metal(backend) if hasattr(backend, "driver_allocated_memory") else _caching_allocator(backend)


def _caching_allocator(backend: Any) -> dict[str, float]:
    stats = backend.memory_stats()  # bookkeeping of the host: no synchronisation
    readings = {
        "allocated_mb": stats.get("allocated_bytes.all.current"),
        "reserved_mb": stats.get("reserved_bytes.all.current"),
        "peak_mb": stats.get("allocated_bytes.all.peak"),
        "total_mb": backend.get_device_properties(backend.current_device()).total_memory,
    }
    return {name: _mib(value) for name, value in readings.items() if value is not None}


def _metal(backend: Any) -> dict[str, float]:
    return {
        "allocated_mb": _mib(backend.current_allocated_memory()),
        "reserved_mb": _mib(backend.driver_allocated_memory()),
    }


def _mib(size: float) -> float:
    return round(size / MIB, 3)
