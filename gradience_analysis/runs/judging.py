"""How many findings each run has, as `gradience monitor` makes them under the default policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from gradience_analysis.runs.progress import Bar
from gradience_analysis.store.contents import Finding
from gradience_analysis.store.reading import judge_runs
from gradience_analysis.workers.pool import Pool, batched, workers_for

# Judging a byte of a small run takes about twice as long as reading it into tables.
_COST: Final = 2
_BATCH_BYTES: Final = 2 << 20


class Asked(NamedTuple):
    """A run to judge: its id, the first of its files, and the bytes of all of them."""

    run_id: str
    path: str
    size: int


def judge(runs: Sequence[Asked], workers: int | None, progress: Bar) -> list[Finding]:
    """The counts for each run, in order; none, with the reason, for a run that could not be judged.

    A run is loaded by the path of its first file, which brings its other segments from the same folder. One that is
    no longer there cannot be judged.
    """
    batches = [[(run.run_id, run.path) for run in batch] for batch in batched(runs, lambda run: run.size, _BATCH_BYTES)]
    found: list[Finding] = []
    with Pool(workers_for(len(batches), _COST * sum(run.size for run in runs), workers)) as pool:
        for done, several in enumerate(pool.results(judge_runs, batches), 1):
            found.extend(several)
            progress.advance(done, len(batches))
    return found
