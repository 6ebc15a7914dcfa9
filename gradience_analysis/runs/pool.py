"""Spreads work over processes that import this package alone: not the user's script, which spawning would run again."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from queue import SimpleQueue
from typing import Any, Final, Protocol, Self, TypeVar

from gradience_analysis.errors import GradienceError

ONE_PROCESS_BYTES: Final = 20 << 20
"""Input that takes about as long to read as a process takes to start: each process is to have as much."""
_MODULE: Final = "gradience_analysis.runs.worker"
_LENGTH: Final = 8
T = TypeVar("T")
R = TypeVar("R")


class Progress(Protocol):
    """What is told how far the work is."""

    def advance(self, done: int, total: int) -> None:
        """So many of so many batches are done."""
        ...


def workers_for(batches: int, size: int, workers: int | None) -> int:
    """How many processes to use.

    Args:
        batches: Pieces the work can be cut into.
        size: Bytes of input.
        workers: What the user asked for; None for a choice: one process for each `ONE_PROCESS_BYTES`, at most one a
            processor, and this process alone where that makes less than two.

    Raises:
        GradienceError: The user asked for less than one.
    """
    if workers is not None and workers < 1:
        raise GradienceError(f"workers must be 1 or more, not {workers}.", "None chooses by the size of the input.")
    wanted = min(processors(), size // ONE_PROCESS_BYTES) if workers is None else workers
    return max(1, min(wanted, batches))


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(function: Callable[[T], R], items: Sequence[T], workers: int, progress: Progress) -> Iterator[R]:
    """The results of a module-level function of this package, in the order of the items.

    Args:
        function: What to do with an item; it and the results are pickled.
        items: The work.
        workers: Processes; with 1 the work is done here.
        progress: Told after each item.

    Raises:
        GradienceError: A process ended before its work was done.
    """
    if workers <= 1:
        for done, item in enumerate(items, 1):
            result = function(item)
            progress.advance(done, len(items))
            yield result
        return
    with _Pool(workers) as pool:
        futures = [pool.submit(function, item) for item in items]
        for done, future in enumerate(as_completed(futures), 1):
            future.result()
            progress.advance(done, len(items))
        yield from (future.result() for future in futures)


class _Pool:
    """Processes, each with a thread that hands it work and waits for the answer."""

    def __init__(self, workers: int) -> None:
        self._threads = ThreadPoolExecutor(workers)
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        # The package must be found there as it was found here, whatever put it on the path.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._processes = [
            subprocess.Popen(  # noqa: S603 (this interpreter, a module of this package)
                [sys.executable, "-m", _MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
            for _ in range(workers)
        ]
        for process in self._processes:
            self._idle.put(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # On the way out of an error the threads still wait for answers: without its process a thread ends.
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.kill()
        self._threads.shutdown()
        for process in self._processes:
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()

    def submit(self, function: Callable[[T], R], item: T) -> Future[R]:
        return self._threads.submit(self._ask, function, item)

    def _ask(self, function: Callable[[Any], Any], item: Any) -> Any:
        process = self._idle.get()
        try:
            send(process.stdin, (function, item))
            answer = receive(process.stdout)
        except (BrokenPipeError, EOFError) as error:
            raise _ended(process) from error
        self._idle.put(process)
        return answer


def _ended(process: subprocess.Popen[bytes]) -> GradienceError:
    code = process.wait()
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    remedy = "Memory may be short: read with workers=1." if code < 0 else "What it had to say stands on stderr."
    return GradienceError(f"A process that read files {how}.", remedy)


def send(stream: Any, value: object) -> None:
    """Write a value, its length first."""
    data = pickle.dumps(value, protocol=5)
    stream.write(len(data).to_bytes(_LENGTH, "big"))
    stream.write(data)
    stream.flush()


def receive(stream: Any) -> Any:
    """The next value.

    Raises:
        EOFError: There is none, or it is cut off.
    """
    length = stream.read(_LENGTH)
    if len(length) < _LENGTH:
        raise EOFError
    size = int.from_bytes(length, "big")
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)  # noqa: S301 (between this process and one that it started)
