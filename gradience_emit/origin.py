"""Which machine and which process write a run: enough to tell later, there, whether the writer still lives."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path
from typing import Any, Final

__all__ = ["host", "machine", "process"]

_PROC: Final = Path("/proc")
_DIGITS: Final = 12
# Of the fields of /proc/PID/stat that follow the command's name in parentheses: start time in clock ticks since boot.
_START_FIELD: Final = 19


def host(*, allow_hostname: bool = False) -> str | None:
    """The machine's name as `sha256:` and 12 hex digits, enough to tell machines apart; the name itself when allowed.

    None when the machine has no name.
    """
    name = platform.node()
    if not name or allow_hostname:
        return name or None
    return _digest(name)


def machine() -> dict[str, Any]:
    """`host` and, on Linux, `boot_id`: the digest of the random id that the kernel draws at each start."""
    return _known(host=host(), boot_id=_boot_id())


def process() -> dict[str, Any]:
    """`pid` of this process; on Linux also `pid_start` (clock ticks since boot) and `pid_namespace`.

    A number of a process is given out again after its end, and means another process in another container: with the
    two others beside it, it does not.
    """
    return _known(pid=os.getpid(), pid_start=_pid_start(), pid_namespace=_pid_namespace())


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:_DIGITS]}"


def _boot_id() -> str | None:
    try:
        text = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return _digest(text) if text else None


def _pid_start() -> int | None:
    try:
        fields = (_PROC / "self/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[_START_FIELD])
    except (OSError, ValueError, IndexError):
        return None


def _pid_namespace() -> int | None:
    try:
        return (_PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return None
