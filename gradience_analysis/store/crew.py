"""Shares work over processes, when there is enough of it to be worth starting them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Final, Self, TypeVar

from gradience_analysis.errors import GradienceError

WORTH_A_PROCESS: Final = 32 << 20
"""Bytes of JSONL that make up for starting a process: half a second."""

T = TypeVar("T")
R = TypeVar("R")


class Crew:
    """Processes that are started at the first work and kept until the end.

    They are spawned, not forked: a fork copies locks that other threads hold (pyarrow's, for one) and may hang. What
    a spawned process imports first is the caller's main script, so a script that ingests does it under
    `if __name__ == "__main__":`.

    Args:
        workers: How many at most; None for as many as there are processors.
        amount: Bytes of work in sight; with little of it, everything is done in this process.
    """

    def __init__(self, workers: int | None, amount: int) -> None:
        wanted = workers or os.cpu_count() or 1
        self._number = min(wanted, 1 + amount // WORTH_A_PROCESS) if workers is None else wanted
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def each(self, work: Callable[[Sequence[T]], list[R]], batches: Sequence[Sequence[T]]) -> Iterator[R]:
        """The results of a function over batches, in order.

        Raises:
            GradienceError: A process ended before its work was done.
        """
        if self._number == 1 or len(batches) < 2:
            for batch in batches:
                yield from work(batch)
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._number, mp_context=multiprocessing.get_context("spawn"))
        try:
            for results in self._pool.map(work, batches):
                yield from results
        except BrokenProcessPool as error:
            raise GradienceError(
                "A process that reads files ended before its work was done.",
                'Use workers=1 to read in one process; a script has to do this under `if __name__ == "__main__":`.',
            ) from error


def batched(items: Sequence[T], size_of: Callable[[T], int], at_most: int) -> list[list[T]]:
    """Items in order, in lists whose sizes add up to at most so much, or of one item."""
    batches: list[list[T]] = []
    total = 0
    for item in items:
        size = size_of(item)
        if not batches or total + size > at_most:
            batches.append([])
            total = 0
        batches[-1].append(item)
        total += size
    return batches
