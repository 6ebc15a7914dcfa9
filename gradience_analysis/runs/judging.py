"""How many findings each run has, as `gradience monitor` makes them under the default policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from gradience_analysis.runs.pool import Progress, in_processes, workers_for
from gradience_analysis.store.contents import Finding
from gradience_analysis.store.reading import judge_runs

# Judging a byte of a small run takes about twice as long as reading it into tables.
_COST: Final = 2
_BATCH_BYTES: Final = 2 << 20


class Asked(NamedTuple):
    """A run to judge: its id, the first of its files, and the bytes of all of them."""

    run_id: str
    path: str
    size: int


def judge(runs: Sequence[Asked], workers: int | None, progress: Progress) -> list[Finding]:
    """The counts for each run, in order; none, with the reason, for a run that could not be judged.

    A run is loaded by the path of its first file, which brings its other segments from the same folder. One that is
    no longer there, or is not the newest of a file that holds several, cannot be judged.
    """
    batches = list(_batches(runs))
    number = workers_for(len(batches), _COST * sum(run.size for run in runs), workers)
    return [one for several in in_processes(judge_runs, batches, number, progress) for one in several]


def _batches(runs: Sequence[Asked]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    size = 0
    for run in runs:
        if batch and size + run.size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append((run.run_id, run.path))
        size += run.size
    if batch:
        yield batch
