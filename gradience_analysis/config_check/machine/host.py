"""Memory of this host, and the versions of libraries, from what the system itself says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from gradience_analysis.config_check.machine.facts import LibraryFacts

MEMINFO = Path("/proc/meminfo")
# The limit of version 2 of control groups, then that of version 1.
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def host_memory(meminfo: Path = MEMINFO, limits: Iterable[Path] = CGROUP_LIMITS) -> tuple[int | None, int | None]:
    """Bytes that a process here may use, and bytes that are available now; None for what is not known."""
    sizes = _meminfo(meminfo)
    total, available = sizes.get("MemTotal"), sizes.get("MemAvailable")
    for path in limits:
        limit = _text(path).strip()
        if limit.isdigit():
            total = int(limit) if total is None else min(total, int(limit))
            break
    return total, available


def _meminfo(path: Path) -> Mapping[str, int]:
    sizes: dict[str, int] = {}
    for line in _text(path).splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()[:1]
        if number and number[0].isdigit():
            sizes[name] = int(number[0]) << 10
    return sizes


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def installed(names: Iterable[str]) -> tuple[LibraryFacts, ...]:
    """The installed version of each library, told without importing it."""
    from importlib import metadata  # takes as long to import as a small check takes altogether

    found: list[LibraryFacts] = []
    for name in names:
        try:
            found.append(LibraryFacts(name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append(LibraryFacts(name, None))
    return tuple(found)
