"""Starts the process that unpickles, cut off from this one, hears what it says, and ends it whatever happens."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from gradience_analysis.adapters.strict_json import StrictJsonError, parse_object

START_SECONDS: Final = 180.0
"""How long the process may take to import torch, which is on a disk that may be slow."""
_CHILD = Path(__file__).with_name("child.py")
_MOST_SAID = 64 << 10
_LAST_WAIT = 5.0
_LOOK_SECONDS = 0.25
# Where a system keeps its libraries; nothing else of the environment is handed on.
_KEPT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the process ended.

    Attributes:
        name: What it said last; `crashed`, `timed_out` or `never_ready` when it did not get to say anything.
        fields: What belongs to it.
        signal: The signal that ended it, as a number; 0 for none.
    """

    name: str
    fields: Mapping[str, Any]
    signal: int = 0

    def text(self, field: str) -> str:
        """A field as text; empty when there is none."""
        return str(self.fields.get(field, ""))


def run_isolated(source: Path, out: Path, *, memory_bytes: int, seconds: float) -> Outcome:
    """Have one file converted, in a process and a process group of its own, which is gone when this returns.

    Args:
        source: The pickled file.
        out: The file to make, in an empty folder that is nobody else's.
        memory_bytes: Memory that it may take beyond what torch takes by itself.
        seconds: Time on the clock, and of the processor, from the moment torch is loaded.
    """
    package = Path(__file__).parents[2]
    request = {
        "source": os.path.abspath(source),  # noqa: PTH100 (a link stays a link, as the user gave it)
        "out": str(out),
        "package": str(package),
        "paths": _import_paths(source),
        "memory_bytes": memory_bytes,
        "seconds": seconds,
    }
    try:
        process = _start(json.dumps(request), out.parent)
    except OSError as error:
        return Outcome("unprepared", {"text": f"no process: {os.strerror(error.errno or 0)}"})
    try:
        outcome = _listen(process, seconds)
    finally:
        _end(process)
    if outcome.name == "crashed" and process.returncode < 0:
        return Outcome("crashed", {}, -process.returncode)
    return outcome


def _start(request: str, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 (this interpreter, a file of this package)
        [sys.executable, "-I", "-B", "-W", "ignore", str(_CHILD), request],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=_environment(folder),
        close_fds=True,
        start_new_session=True,
    )


def _listen(process: subprocess.Popen[bytes], seconds: float) -> Outcome:
    """The last thing it says before its time is up."""
    lines = _Lines(process)
    answer, late = lines.next(START_SECONDS), "never_ready"
    if answer is not None and answer.name == "ready":
        answer, late = lines.next(seconds), "timed_out"
    if answer is None:
        return Outcome(late, {})
    if answer.name == "crashed":
        _await_end(process)
    return answer


class _Lines:
    """Lines of JSON out of a process's stdout, within a time, and never more than a process of ours has to say."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._descriptor = cast("Any", process.stdout).fileno()
        self._buffer = b""

    def next(self, seconds: float) -> Outcome | None:
        """The next line; `crashed` when there is none, or it is nonsense; None when time is up."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            # Another process may hold the pipe open when this one has ended.
            ended = _has_ended(self._process)
            if select.select([self._descriptor], [], [], 0 if ended else min(left, _LOOK_SECONDS))[0]:
                piece = os.read(self._descriptor, 1 << 16)
                self._buffer += piece
                ended = not piece or len(self._buffer) > _MOST_SAID
            if ended and b"\n" not in self._buffer:
                return Outcome("crashed", {})
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            fields = parse_object(line)
        except StrictJsonError:
            return Outcome("crashed", {})
        return Outcome(str(fields.pop("outcome", "crashed")), fields)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended, without taking its number away, which names its group."""
    if not hasattr(os, "waitid"):  # pragma: no cover - only where the system lacks it
        return False
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _await_end(process: subprocess.Popen[bytes]) -> None:
    """Give a process that stopped talking the time to end by itself, so that its signal is known."""
    deadline = time.monotonic() + _LAST_WAIT
    while time.monotonic() < deadline and not _has_ended(process):
        time.sleep(0.01)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole group, then take the process's exit status, after which its number may be another's."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    place = str(folder)
    return kept | {
        "HOME": place,
        "TMPDIR": place,
        "LC_ALL": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
    }


def _import_paths(source: Path) -> list[str]:
    """Where this process finds modules, but for the folder it works in and the folder of the file.

    Either may hold a `torch.py` that came with the adapter.
    """
    refused = {Path.cwd(), source.parent.resolve()}
    return [path for path in sys.path if Path(path).is_absolute() and Path(path).resolve() not in refused]
