"""The folder that a run is to write to: whether it can be written, its space, its file system, and who holds it."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gradience_analysis.config_check.machine.facts import FolderFacts, HeldFile

try:
    import fcntl
except ImportError:  # Windows has no flock, and the writer takes none there
    fcntl = None  # type: ignore[assignment]

MOUNTS = Path("/proc/mounts")
LOCKS = Path("/proc/locks")
_RUN_FILES = "run*.jsonl"
_MOST_FILES = 1000
_LOCK = re.compile(r"^\d+: FLOCK\s+\S+\s+WRITE (\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) ")
_ESCAPE = re.compile(r"\\([0-7]{3})")


def gather_folder(path: Path) -> FolderFacts:
    """What holds of the folder, or of the nearest one above it that exists, where it is not there yet."""
    try:
        there = nearest(path)
    except OSError as error:
        return FolderFacts(str(path), write_fault=_reason(error), locks_seen=False)
    held, seen = _held(there) if there == path.absolute() else ((), True)
    return FolderFacts(
        path=str(path),
        probed=str(there),
        write_fault=_write_fault(there),
        free_bytes=_free(there),
        file_system=file_system(there),
        held=held,
        locks_seen=seen,
    )


def nearest(path: Path) -> Path:
    """The path itself when something is there, else the nearest folder above it that exists."""
    there = path.absolute()
    while not there.exists() and not there.is_symlink() and there != there.parent:
        there = there.parent
    return there


def _write_fault(folder: Path) -> str:
    """Create a file of a name of its own, sync it, remove it; why that failed, or nothing."""
    if not folder.is_dir():
        return f"{folder} is not a folder"
    try:
        descriptor, name = tempfile.mkstemp(prefix=".gradience-probe-", dir=folder)
    except OSError as error:
        return _reason(error)
    fault = ""
    try:
        os.write(descriptor, b"probe\n")
        os.fsync(descriptor)
    except OSError as error:
        fault = _reason(error)
    finally:
        os.close(descriptor)
    try:
        Path(name).unlink()
    except OSError as error:
        fault = fault or _reason(error)
    return fault


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _free(folder: Path) -> int | None:
    try:
        space = os.statvfs(folder)
    except (OSError, AttributeError):  # AttributeError: Windows
        return None
    return space.f_bavail * space.f_frsize


def file_system(folder: Path, mounts: Path = MOUNTS) -> str:
    """The type of the file system that a folder is on; empty where the system does not say."""
    try:
        real = folder.resolve()
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except (OSError, RuntimeError):
        return ""
    best, kind = -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_ESCAPE.sub(lambda escape: chr(int(escape[1], 8)), fields[1]))
        # Of two at one point the later one lies on top.
        if (real == point or point in real.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind


def _held(folder: Path) -> tuple[tuple[HeldFile, ...], bool]:
    """Files of runs that are locked, and whether locks could be looked for."""
    owners = _owners()
    held: list[HeldFile] = []
    seen = fcntl is not None
    for path in _run_files(folder):
        try:
            info = path.lstat()
            if not stat.S_ISREG(info.st_mode):
                continue
            device = (os.major(info.st_dev), os.minor(info.st_dev), info.st_ino)
            if device in owners:
                held.append(HeldFile(str(path), owners[device]))
            elif _is_locked(path):
                held.append(HeldFile(str(path)))
        except OSError:
            seen = False
    return tuple(held), seen


def _run_files(folder: Path) -> Iterator[Path]:
    try:
        found = sorted(folder.glob(_RUN_FILES))
    except OSError:
        return
    yield from found[-_MOST_FILES:]


def _owners() -> dict[tuple[int, int, int], int]:
    """Who holds which file, as the kernel tells it: that disturbs nobody."""
    try:
        lines = LOCKS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    found = (_LOCK.match(line) for line in lines)
    return {(int(one[2], 16), int(one[3], 16), int(one[4])): int(one[1]) for one in found if one}


def _is_locked(path: Path) -> bool:
    """Whether another holds the writer's lock, also one that the kernel does not show to us (another container).

    Asked for is a shared lock, for an instant. A writer that would append to this very file in that instant takes the
    next segment name instead, as it does beside any other writer.
    """
    if fcntl is None:
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
