"""Files of a run: one segment per writer, created and never truncated, each line in one ``write``.

``run.jsonl`` is the first segment, ``run.1.jsonl`` the next, ``run.rank3.jsonl`` that of rank 3. A segment belongs to
the one process that holds its lock; whoever comes second gets the next free name. All system calls of the emitter are
in this module, so that a test can make each of them fail.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

try:
    import fcntl
except ImportError:  # Windows has no flock: exclusive creation alone keeps writers apart there
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "Segment",
    "SegmentHead",
    "ShortWriteError",
    "find_segments",
    "open_segment",
    "reopen_segment",
    "segment_path",
]

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_HEAD_BYTES: Final = 1 << 20
_TAIL_BYTES: Final = 2 << 20
_SEQ_LIMIT: Final = 2**53
_write = os.write
_sync = getattr(os, "fdatasync", os.fsync)
_truncate = os.ftruncate
_open = os.open


class ShortWriteError(OSError):
    """The system took only part of a line (a full disk does this before it says so)."""

    def __init__(self, written: int, wanted: int) -> None:
        super().__init__(errno.ENOSPC, f"only {written} of {wanted} bytes were written")


@dataclass(frozen=True, slots=True)
class SegmentHead:
    """What the first line of an existing segment says.

    Attributes:
        index: the number in the file's name (0 for ``run.jsonl``).
        run_id: None when the first line cannot be read.
        segment: the run's own segment number from ``meta.segment``; 0 when absent.
    """

    path: Path
    index: int
    run_id: str | None
    segment: int


def segment_path(path: Path, index: int) -> Path:
    """The name of segment ``index`` beside ``path``: ``run.jsonl``, ``run.1.jsonl`` and so on."""
    return path if index == 0 else path.with_name(f"{path.stem}.{index}{path.suffix}")


def find_segments(path: Path) -> list[SegmentHead]:
    """The existing segments of ``path`` in order; empty when there are none or the folder cannot be read."""
    prefix, suffix = path.stem, path.suffix
    found: dict[int, Path] = {}
    try:
        entries = list(os.scandir(path.parent))
    except (OSError, ValueError):  # ValueError: a NUL byte in the path
        return []
    for entry in entries:
        if not entry.name.startswith(prefix) or not entry.name.endswith(suffix):
            continue
        middle = entry.name[len(prefix) : len(entry.name) - len(suffix)]
        if entry.name == path.name:
            found[0] = path
        elif middle[:1] == "." and middle[1:].isascii() and middle[1:].isdigit() and middle[1:2] != "0":
            found[int(middle[1:])] = path.with_name(entry.name)
    return [_head(found[index], index) for index in sorted(found)]


def _head(path: Path, index: int) -> SegmentHead:
    nothing: dict[str, Any] = {}
    record = next(_records(_read_regular(path, 0, _HEAD_BYTES)), nothing)
    run_id, meta = record.get("run_id"), record.get("meta")
    number = cast("dict[str, Any]", meta).get("segment") if isinstance(meta, dict) else None
    return SegmentHead(
        path,
        index,
        run_id if isinstance(run_id, str) and run_id else None,
        number if isinstance(number, int) and number >= 0 else 0,
    )


def _read_regular(path: Path, start: int, size: int) -> bytes:
    """Up to ``size`` bytes of a regular file; nothing from anything else (a FIFO would hang, a device never end)."""
    try:
        descriptor = _open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        return os.pread(descriptor, size, start)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _records(data: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects among the lines of ``data``; after the last newline, a whole event, which lacks that alone."""
    *lines, tail = data.split(b"\n")
    for line in (*lines, tail):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and (line is not tail or "event" in record):
            yield record


class Segment:
    """One open segment.

    Attributes:
        path: the file.
        index: the number in its name.
        next_seq: the ``seq`` of the next event (0 in a new segment).
        run_id: for a segment opened to append, the run it belongs to, when that could be read.
        ended: for a segment opened to append, whether a ``run_end`` is among its last lines.
        identity: device and inode, to tell the file from another one of its name.
    """

    def __init__(self, descriptor: int, path: Path, index: int) -> None:
        self._descriptor = descriptor
        self.path = path
        self.index = index
        self.next_seq = 0
        self.run_id: str | None = None
        self.ended = False
        self._torn = False
        info = os.fstat(descriptor)
        self.identity = (info.st_dev, info.st_ino)

    def adopt_tail(self) -> None:
        """Continue an existing file: its run_id and seq from its last whole lines, and whether its tail is torn.

        A tail that cannot be read counts as torn: the worst that follows is one empty line.
        """
        size = os.fstat(self._descriptor).st_size
        start = max(0, size - _TAIL_BYTES)
        tail = _read_regular(self.path, start, _TAIL_BYTES)
        self._torn = size > 0 and not tail.endswith(b"\n")
        for record in _records(tail):
            run_id, seq = record.get("run_id"), record.get("seq")
            if isinstance(run_id, str) and run_id:
                self.run_id = run_id
            if isinstance(seq, int) and not isinstance(seq, bool) and 0 <= seq < _SEQ_LIMIT:
                self.next_seq = seq + 1
            self.ended = self.ended or record.get("event") == "run_end"

    def write(self, line: bytes) -> None:
        """Append one line (newline included) with one system call, or leave the file as it was.

        A torn tail (of an earlier writer, or of a short write that could not be cut back) is closed with a newline
        first, in the same call, so that two records are never fused.

        Raises:
            OSError: the line is not in the file; `ShortWriteError` when part of it was and has been cut back.
        """
        data = b"\n" + line if self._torn else line
        written = _write(self._descriptor, data)
        if written != len(data):
            self._cut_back(written)
            raise ShortWriteError(written, len(data))
        self._torn = False

    def _cut_back(self, written: int) -> None:
        if written <= 0:
            return
        try:
            _truncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
        except OSError:
            self._torn = True

    def sync(self) -> None:
        """Ask the system to put the data on the disk (``fdatasync``)."""
        _sync(self._descriptor)

    def is_gone(self) -> bool:
        """Whether the file was deleted or replaced, so that further lines would vanish with it."""
        try:
            ours, there = os.fstat(self._descriptor), self.path.stat()
        except OSError:
            return True
        return (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino)

    def may_hold(self, run_id: str | None) -> bool:
        """Whether events of ``run_id`` may be appended: it is the file's own run, or one of the two is not known."""
        return run_id is None or self.run_id is None or self.run_id == run_id

    def close(self) -> None:
        """Close the descriptor (which releases the lock); closing twice is harmless."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            try:
                os.close(descriptor)
            except OSError:  # a network file system may report an earlier failed write here; nothing is left to do
                return


def reopen_segment(segment: Segment) -> Segment | None:
    """The same file under a new descriptor, after the old one went bad; None when that file is not there any more.

    Raises:
        OSError: the file is there but cannot be opened now.
    """
    again = _take_existing(segment.path, segment.index, must_be_empty=False)
    if again is None:
        return None
    if again.identity != segment.identity:
        again.close()
        return None
    again.adopt_tail()
    return again


def open_segment(path: Path, *, append: bool = False, run_id: str | None = None) -> Segment:
    """Open the segment a new writer of ``path`` shall use, creating folders as needed.

    A free name is created exclusively. An existing file is used only when it is empty, or with ``append=True`` when it
    is a regular file of the same run; in both cases only when no other process holds its lock. Otherwise the next
    number is tried, so that no earlier byte is ever changed and no file is shared.

    Raises:
        OSError: the folder cannot be created or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if append:
        segment = _take_existing(path, 0, must_be_empty=False)
        if segment is not None:
            segment.adopt_tail()
            if segment.may_hold(run_id):
                return segment
            segment.close()
    index = 0
    while True:
        candidate = segment_path(path, index)
        segment = _create(candidate, index) or _take_existing(candidate, index, must_be_empty=True)
        if segment is not None:
            return segment
        index += 1


def _create(path: Path, index: int) -> Segment | None:
    try:
        descriptor = _open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return None
    if not _lock(descriptor):  # another writer found the empty file in the instant before the lock
        os.close(descriptor)
        return None
    _sync_folder(path.parent)
    return Segment(descriptor, path, index)


def _take_existing(path: Path, index: int, *, must_be_empty: bool) -> Segment | None:
    """An existing regular file, locked; None when it is in use, absent, or not one to write to."""
    try:
        info = path.lstat()
        if not stat.S_ISREG(info.st_mode) or (must_be_empty and info.st_size):
            return None
        descriptor = _open(path, _FLAGS | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    if _lock(descriptor) and not (must_be_empty and os.fstat(descriptor).st_size):
        return Segment(descriptor, path, index)
    os.close(descriptor)
    return None


def _lock(descriptor: int) -> bool:
    """Take the exclusive lock; True also where the file system has no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable; not every file system can, and none may fail the run for it."""
    try:
        descriptor = _open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)
