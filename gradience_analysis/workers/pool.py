"""Spreads work over processes that import this package alone: not the user's script, which spawning would run again."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Final, Self, TypeVar

from gradience_analysis.errors import GradienceError

ONE_PROCESS_BYTES: Final = 20 << 20
"""Input that takes about as long to read as a process takes to start: each process is to have as much."""
_MODULE: Final = "gradience_analysis.workers.worker"
_LENGTH: Final = 8
T = TypeVar("T")
R = TypeVar("R")


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


def batched(items: Sequence[T], size_of: Callable[[T], int], at_most: int, most: int | None = None) -> list[list[T]]:
    """Items in order, in lists whose sizes add up to at most so much, or of one item.

    Args:
        items: What to put in lists.
        size_of: Size of one.
        at_most: Size of a list of several.
        most: Items in a list.
    """
    batches: list[list[T]] = []
    total = 0
    for item in items:
        size = size_of(item)
        if not batches or total + size > at_most or len(batches[-1]) == most:
            batches.append([])
            total = 0
        batches[-1].append(item)
        total += size
    return batches


class Pool:
    """Processes that are started at the first work and kept until the end of the `with` block.

    Args:
        workers: How many; with 1 the work is done in this process.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._started: _Processes | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._started is not None:
            self._started.stop()

    def results(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """The results of a module-level function of this package, in the order of the items.

        Args:
            function: What to do with an item; it and the results are pickled.
            items: The work.

        Raises:
            GradienceError: A process ended before its work was done.
        """
        if self._workers <= 1 or (len(items) < 2 and self._started is None):
            yield from map(function, items)
            return
        if self._started is None:
            self._started = _Processes(self._workers)
        for future in [self._started.submit(function, item) for item in items]:
            yield future.result()


class _Processes:
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

    def stop(self) -> None:
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
