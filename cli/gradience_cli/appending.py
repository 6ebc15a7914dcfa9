"""Adds records to a run that is there: behind its last byte, in its numbering, and never while it is written."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

from gradience_analysis.errors import InputError, NoTelemetryError

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]

_REMEDY = "Give the .jsonl file of a run, as the callback writes it."
_FLAGS = os.O_RDWR | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_GZIP = b"\x1f\x8b"
_LAST_LINE = 1 << 20


class RunFile:
    """A file of telemetry that records can be added to.

    Metrics may follow the `run_end` of a run, so that an audit goes into the segment that it is about.

    Args:
        path: One segment of a run.

    Raises:
        InputError: It is missing, no regular file, compressed, or cannot be written.
        NoTelemetryError: It holds no telemetry.
    """

    def __init__(self, path: Path) -> None:
        from gradience_analysis.telemetry.files import peek

        self.path = path
        if str(path) == "-":
            raise InputError(str(path), "is no file that can be added to.", _REMEDY)
        self._run_id = peek(path).run_id
        if self._run_id is None:
            raise NoTelemetryError(str(path), "holds no telemetry/v1 record near its start.", _REMEDY)
        with self._opened() as descriptor:
            if os.pread(descriptor, 2, 0) == _GZIP:
                raise InputError(str(path), "is compressed.", "Decompress it first: gzip -d FILE.")

    def append(self, event: str, **payload: Any) -> int:
        """Add one event without a step, and put it on the disk.

        A torn last line is closed first, so that two records are never fused; no earlier byte changes.

        Args:
            event: Its type.
            payload: Its fields; a figure that is not finite becomes null, and is named as telemetry/v1 does.

        Returns:
            The number of the record in its segment.

        Raises:
            InputError: Another process writes the file, the end of it holds no record to go on from, or the disk
                refuses. The file is then as it was.
        """
        from gradience_emit.record import RecordEncoder
        from gradience_emit.redact import Redactor
        from gradience_emit.segments import Segment

        with self._opened() as descriptor:
            self._lock(descriptor)
            segment = Segment(descriptor, self._resolved(), 0)
            segment.adopt_tail()
            last = _record_without_newline(descriptor)
            if last is None and segment.run_id is None:
                raise InputError(str(self.path), "holds no record at its end to go on from.", "Validate it first.")
            run_id, seq = _next(segment.run_id or self._run_id, segment.next_seq, last)
            encoder = RecordEncoder(cast("str", run_id), seq, Redactor())
            line, _ = encoder.encode(event, None, payload, None)
            try:
                segment.write(line)
                segment.sync()
            except OSError as error:
                raise InputError(str(self.path), f"cannot be written: {error.strerror or error}.") from error
        return seq

    @contextlib.contextmanager
    def _opened(self) -> Generator[int]:
        try:
            descriptor = os.open(self.path, _FLAGS)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise InputError(str(self.path), f"cannot be written: {reason}.") from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError(str(self.path), "is not a regular file.", _REMEDY)
            yield descriptor
        finally:
            os.close(descriptor)

    def _resolved(self) -> Path:
        """Where the file is, past any link to it."""
        return Path(os.path.realpath(self.path))

    def _lock(self, descriptor: int) -> None:
        """Take the lock of the segment, as every writer does; where there are none, nobody has it."""
        if fcntl is None:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            what = "is being written by another process."
            raise InputError(str(self.path), what, "Append to it when the run has ended.") from None
        except OSError:
            return


def _record_without_newline(descriptor: int) -> dict[str, Any] | None:
    """The last line, where only its newline is missing; None where it is whole, or torn."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - _LAST_LINE)
    line = os.pread(descriptor, size - start, start).rpartition(b"\n")[2]
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", record) if isinstance(record, dict) else None


def _next(run_id: str | None, seq: int, last: dict[str, Any] | None) -> tuple[str | None, int]:
    """Run and number that go on, after a last record that stands without its newline."""
    if last is None:
        return run_id, seq
    found, number = last.get("run_id"), last.get("seq")
    if isinstance(found, str) and found:
        run_id = found
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**53:
        seq = number + 1
    return run_id, seq
