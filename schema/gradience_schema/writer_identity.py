"""How `run_start.meta` names the machine and the process that write a run; the writer and the readers have to agree.

``host`` and ``boot_id`` are digests: enough to tell machines and their starts apart. What is not known is None.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["PROC", "boot_id", "digest", "pid_namespace", "process_state"]

PROC = Path("/proc")
_DIGITS = 12
# Of the fields of /proc/PID/stat that follow the command's name in parentheses: start time in clock ticks since boot.
_START_FIELD = 19


def digest(text: str) -> str:
    """``sha256:`` and the first 12 hex digits of the SHA-256 of a text."""
    import hashlib  # takes its time, and a reader asks only for runs without an end

    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:_DIGITS]}"


def boot_id(proc: Path = PROC) -> str | None:
    """The digest of the random id that Linux draws at each start of the machine."""
    try:
        text = (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return digest(text) if text else None


def pid_namespace(proc: Path = PROC) -> int | None:
    """Number of the process namespace (the container) in which this process counts process ids."""
    try:
        return (proc / "self/ns/pid").stat().st_ino
    except OSError:
        return None


def process_state(pid: int | None = None, proc: Path = PROC) -> tuple[bytes, int | None]:
    """State letter and start time (clock ticks since boot) of a process, or of this one; no start time when unknown."""
    try:
        fields = (proc / ("self" if pid is None else str(pid)) / "stat").read_bytes().rpartition(b")")[2].split()
        return fields[0], int(fields[_START_FIELD])
    except (OSError, ValueError, IndexError):
        return b"", None
