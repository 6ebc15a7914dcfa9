"""What the training process holds in memory, read without making it wait for the device."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

__all__ = ["MIB", "read_memory"]

MIB: Final = 1 << 20
"""Bytes of the unit that every ``*_mb`` figure of telemetry/v1 is in."""


def read_memory() -> dict[str, float]:
    """The process's memory in MiB (2^20 bytes); what cannot be read is left out.

    ``rss_mb`` is the resident set; where the system gives only its maximum so far, that stands as ``rss_peak_mb``. The
    device figures are those of torch's own allocator on the current device (``allocated_mb``, ``reserved_mb``,
    ``peak_mb`` since the process started or the user last reset it) and ``total_mb``, the device's memory. They are
    there only when torch is imported and has a device in use; torch is never imported for them.
    """
    return _device_memory() | _resident_memory()


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
