"""Whether the process that wrote a run still lives, as far as this machine can tell, and when a run was read."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from gradience_analysis.model import Segment
from gradience_schema.writer_identity import PROC, boot_id, digest, pid_namespace, process_state

# Every machine may call itself so: the name tells nothing about which one it is.
_NAMELESS = frozenset({"localhost", "localhost.localdomain", "(none)"})
_PROC = PROC
_DEAD = (b"Z", b"X", b"x")
_MAX_PID = 1 << 31
# Stamps below it (the year 2001) count from a start of their own, not from 1970.
_FIRST_UNIX_S = 1_000_000_000


def read_time(segments: Sequence[Segment], now: float | None = None) -> float | None:
    """Unix seconds of this reading, to be held against the stamps of a run.

    Args:
        segments: The segments of the run, in order.
        now: The time to take; None for that of the clock.

    Returns:
        The time; None where it says nothing about the run: for the log of another tool, and for stamps that are not of
        the clock.
    """
    if not all(segment.timed and "source_format" not in segment.meta for segment in segments):
        return None
    moment = time.time() if now is None else now
    last = max(event.ts for segment in segments for event in segment.events[-1:])
    return None if last < _FIRST_UNIX_S <= moment else moment


def writer_alive(segments: Sequence[Segment]) -> bool | None:
    """Whether the process that writes the last segment lives; None too when that segment has its `run_end`.

    A part of a file that has no run_start of its own belongs to the process of the part before it.

    Args:
        segments: The segments of one rank, in order, at least one.
    """
    last = segments[-1]
    if last.end is not None:
        return None
    for segment in reversed(segments):
        if segment.path != last.path:
            break
        if segment.meta:
            return process_alive(segment.meta)
    return None


def process_alive(meta: Mapping[str, Any]) -> bool | None:
    """Whether the process that a `run_start.meta` names lives; never raises.

    True: it runs here, with the number and the start time that are written. False: it ran on this machine, and either
    the machine was started again since, or there is no such process, or its number belongs to another one by now. None:
    it ran on another machine or in another container, or too little is written to tell.
    """
    if not _same_host(meta.get("host")):
        return None
    boot, own_boot = meta.get("boot_id"), boot_id(_PROC)
    if isinstance(boot, str) and own_boot is not None and boot != own_boot:
        return False
    pid = meta.get("pid")
    namespace, own_namespace = meta.get("pid_namespace"), pid_namespace(_PROC)
    elsewhere = namespace is not None and own_namespace is not None and namespace != own_namespace
    if elsewhere or isinstance(pid, bool) or not isinstance(pid, int) or not 0 < pid < _MAX_PID:
        return None
    begun = meta.get("pid_start")
    # Without the boot and the start of the process, its number may be that of another one.
    return _runs(pid, begun, certain=begun is not None and boot is not None)


def _runs(pid: int, begun: object, *, certain: bool) -> bool | None:
    """Whether a process of that number, started at that time, runs here; None when that is not certain."""
    state, start = process_state(pid, _PROC)
    if start is None:
        return _answers(pid)
    if state in _DEAD or (begun is not None and begun != start):
        return False
    return True if certain else None


def _same_host(host: object) -> bool:
    name = os.uname().nodename if hasattr(os, "uname") else ""
    if not isinstance(host, str) or not name or name in _NAMELESS:
        return False
    return host in {name, digest(name)}


def _answers(pid: int) -> bool | None:
    """For systems without /proc, and processes hidden in it: False when there is none of that number, else None."""
    if os.name != "posix":
        return None  # elsewhere a signal of 0 is not a question
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return None
    return None
