"""Delivers lines to a segment, keeps them while the disk refuses, and decides when they must be on the platter.

After a failed write the line waits in a ring (1,000 lines or 64 MiB) and the write is tried again every few seconds, in
order. When it works again, one `Outage` tells how many waited and how many were lost. What the ring cannot hold is
counted, never forgotten.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gradience_emit.segments import Segment, open_segment, reopen_segment

__all__ = ["Outage", "Spool"]

_RING_BYTES: Final = 64 << 20
_REOPEN_ERRNOS: Final = frozenset({errno.ESTALE, errno.EBADF, errno.ENXIO, errno.ENODEV})
_logger = logging.getLogger("gradience_emit")
_now = time.monotonic


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which nothing could be written.

    Attributes:
        delayed: lines that waited and were written late.
        lost: lines that the ring could not hold.
        seconds: how long it took.
        reason: the first error, as the system worded it.
    """

    delayed: int
    lost: int
    seconds: float
    reason: str


class Spool:
    """The way of a line from the encoder to the disk.

    Attributes:
        dropped: lines lost so far.
        sync_faults: failed ``fdatasync`` calls so far.
    """

    def __init__(
        self,
        path: Path,
        *,
        append: bool,
        run_id: str | None,
        sync_every_s: float,
        sync_every_bytes: int,
        ring_size: int,
        retry_every_s: float,
    ) -> None:
        self._path = self._written = path
        self._sync_every_s = sync_every_s
        self._sync_every_bytes = sync_every_bytes
        self._ring_size = ring_size
        self._retry_every_s = retry_every_s
        self._ring: deque[tuple[bytes, bool]] = deque()
        self._ring_bytes = 0
        self._segment: Segment | None = None
        self._lost_segment: Segment | None = None
        self._first_line: bytes | None = None
        self._unsynced = 0
        self._last_sync = _now()
        self._outage_since: float | None = None
        self._outage_reason = ""
        self._outage_lost = 0
        self._outage_delayed = 0
        self._next_retry = 0.0
        self._warned = False
        self.dropped = 0
        self.sync_faults = 0
        try:
            self._segment = open_segment(path, append=append, run_id=run_id)
        except (OSError, ValueError) as fault:  # ValueError: a NUL byte in the path
            self._begin_outage(fault)

    @property
    def segment(self) -> Segment | None:
        """The open segment; None while none could be opened."""
        return self._segment

    @property
    def path(self) -> Path:
        """The file that is, was last, or will be written."""
        return self._written if self._segment is None else self._segment.path

    @property
    def waiting(self) -> int:
        """Lines in the ring."""
        return len(self._ring)

    def deliver(self, line: bytes, *, important: bool) -> Outage | None:
        """Write ``line`` now, or keep it for later; an `Outage` when this call ended one.

        Args:
            line: one encoded event with its newline.
            important: put it on the disk at once, and keep it in a full ring in preference to others.
        """
        if self._ring or self._segment is None:
            self._keep(line, important=important)
            return self._retry() if _now() >= self._next_retry else None
        try:
            self._segment.write(line)
        except OSError as fault:
            self._keep(line, important=important)
            self._begin_outage(fault)
            return None
        if self._first_line is None:
            self._first_line = line
        self._unsynced += len(line)
        now = _now()
        if important or self._unsynced >= self._sync_every_bytes or now - self._last_sync >= self._sync_every_s:
            self._sync(now)
        return None

    def flush(self) -> Outage | None:
        """One last attempt to write what waits, and a sync."""
        outage = self._retry() if self._ring else None
        if self._unsynced:
            self._sync(_now())
        return outage

    def close(self) -> None:
        """Give up what still waits (counted and warned about) and release the file."""
        if self._ring:
            lost = len(self._ring)
            self.dropped += lost
            self._ring.clear()
            self._ring_bytes = 0
            _logger.warning("%d telemetry events could not be written to %s: %s", lost, self.path, self._outage_reason)
        self.release()

    def release(self) -> None:
        """Let go of the file without touching what waits (in a forked child the parent still owns it)."""
        if self._segment is not None:
            self._written = self._segment.path
            self._segment.close()
            self._segment = None

    def _try_open(self) -> bool:
        """Open the segment again; when it is gone, a new one, which begins with the same first line.

        Never an existing file that this writer did not hold: what waits here is numbered already.
        """
        try:
            if self._lost_segment is not None:
                self._segment = reopen_segment(self._lost_segment)
            if self._segment is None:
                self._segment = open_segment(self._path)
                if self._first_line is not None:
                    self._ring.appendleft((self._first_line, True))
                    self._ring_bytes += len(self._first_line)
        except (OSError, ValueError) as fault:
            self._begin_outage(fault)
            return False
        self._lost_segment = None
        return True

    def _begin_outage(self, fault: OSError | ValueError) -> None:
        self._next_retry = _now() + self._retry_every_s
        if self._outage_since is None:
            self._outage_since = _now()
            self._outage_reason = getattr(fault, "strerror", None) or str(fault)
            self._outage_lost = self._outage_delayed = 0
        if not self._warned:
            self._warned = True
            _logger.warning(
                "telemetry cannot be written to %s (%s). Training goes on; up to %d events are kept in memory and the "
                "write is tried again every %g s.",
                self.path,
                self._outage_reason,
                self._ring_size,
                self._retry_every_s,
            )
        if isinstance(fault, OSError) and fault.errno in _REOPEN_ERRNOS and self._segment is not None:
            self._lost_segment = self._segment  # the handle is dead, the file may not be
            self.release()

    def _keep(self, line: bytes, *, important: bool) -> None:
        self._ring.append((line, important))
        self._ring_bytes += len(line)
        while len(self._ring) > self._ring_size or self._ring_bytes > _RING_BYTES:
            self._drop_one()

    def _drop_one(self) -> None:
        """Drop the oldest line that is not important, else the oldest but one: the first may be the run_start."""
        index = next((i for i, (_, important) in enumerate(self._ring) if not important), min(1, len(self._ring) - 1))
        line, _ = self._ring[index]
        del self._ring[index]
        self._ring_bytes -= len(line)
        self.dropped += 1
        self._outage_lost += 1

    def _retry(self) -> Outage | None:
        """Write what waits, in order; the finished `Outage` when all of it went out."""
        self._next_retry = _now() + self._retry_every_s
        if self._segment is None and not self._try_open():
            return None
        while self._ring and self._segment is not None:
            line, _ = self._ring[0]
            try:
                self._segment.write(line)
            except OSError as fault:
                self._begin_outage(fault)
                return None
            self._ring.popleft()
            self._ring_bytes -= len(line)
            self._unsynced += len(line)
            self._outage_delayed += 1
            if self._first_line is None:
                self._first_line = line
        if self._ring:
            return None
        now = _now()
        seconds = 0.0 if self._outage_since is None else now - self._outage_since
        self._outage_since = None
        self._sync(now)
        return Outage(self._outage_delayed, self._outage_lost, seconds, self._outage_reason)

    def _sync(self, now: float) -> None:
        self._last_sync = now
        if self._segment is None:
            return
        if self._segment.is_gone():
            self._begin_outage(OSError(errno.ESTALE, os.strerror(errno.ESTALE)))
            return
        try:
            self._segment.sync()
        except OSError as fault:
            self.sync_faults += 1
            if self.sync_faults == 1:
                _logger.warning("telemetry in %s could not be synced to disk: %s", self.path, fault)
            return
        self._unsynced = 0
