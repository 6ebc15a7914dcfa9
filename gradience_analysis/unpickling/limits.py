"""What the process that unpickles may use, set by itself once its libraries are loaded, and not to be raised again."""

from __future__ import annotations

import math
import sys
from pathlib import Path

MIB = 1 << 20
_OPEN_FILES = 32
_HEADER_ROOM = 16 * MIB


def confine(memory_bytes: int, seconds: float) -> None:
    """Limit this process from here on.

    Address space (what it has now and `memory_bytes` more), processor time (`seconds` more, rounded up, and one), the
    size of a file that it writes, open files, no new processes or threads (which the system does not hold against
    root), no core dump. Only Linux holds a process to the address space.

    Raises:
        OSError: The system refuses a limit.
        ValueError: The same.
    """
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    ends = math.ceil(used.ru_utime + used.ru_stime + seconds) + 1
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, ends, 1)
    _limit(resource.RLIMIT_FSIZE, memory_bytes + _HEADER_ROOM)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _limit(resource.RLIMIT_NPROC, 0)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory_bytes)


def _limit(which: int, value: int, more: int = 0) -> None:
    """Set a limit, and `more` above it a harder one; the first of those on processor time ends with SIGXCPU."""
    import resource

    hard = resource.getrlimit(which)[1]
    top = value + more if hard == resource.RLIM_INFINITY else min(value + more, hard)
    resource.setrlimit(which, (min(value, top), top))
