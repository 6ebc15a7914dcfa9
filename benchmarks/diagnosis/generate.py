"""Trains the runs of the benchmark and writes their telemetry to `fixtures/diagnosis/`.

    python -m benchmarks.diagnosis.generate [--only NAME...] [--jobs N]

from the root of the repository, with the extra `train` installed. What is there already is kept, so that a run that was
broken off goes on where it stopped; `--again` trains it anew. See the docstring of `benchmarks.diagnosis`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from benchmarks.diagnosis.cells import FIXTURES, Cell
from benchmarks.diagnosis.conditions import CELLS


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the chosen runs."""
    parser = argparse.ArgumentParser(description="Train the runs of the diagnosis benchmark.")
    parser.add_argument("--out", type=Path, default=FIXTURES, help="folder of the runs (default: fixtures/diagnosis)")
    parser.add_argument(
        "--only", nargs="*", default=[], metavar="NAME", help="conditions, or runs such as lr_too_low.qa-tiny-s1"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--again", action="store_true", help="train also what is there already")
    parser.add_argument("--bases", type=Path, help="folder that keeps the pre-trained base models for the next time")
    options = parser.parse_args(arguments)
    chosen = [cell for cell in CELLS if not options.only or {cell.condition, cell.run_id} & set(options.only)]
    if unknown := set(options.only) - {cell.condition for cell in CELLS} - {cell.run_id for cell in CELLS}:
        parser.error(f"no such condition or run: {', '.join(sorted(unknown))}; one is called {CELLS[0].run_id}")
    wanted = [cell for cell in chosen if options.again or not cell.path(options.out).exists()]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        bases = options.bases or Path(scratch) / "bases"
        generate(wanted, options.out, Path(scratch), bases.resolve(), jobs=options.jobs)
    print(f"{len(wanted)} runs in {time.perf_counter() - began:.0f} s", flush=True)


def generate(cells: Sequence[Cell], root: Path, scratch: Path, bases: Path, *, jobs: int) -> None:
    """Train the runs, some at a time, and print each when it is done."""
    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers, before torch is imported there
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as workers:
        pending = {workers.submit(_train, cell, root, scratch, bases): cell for cell in cells}
        for done in as_completed(pending):
            print(f"{pending[done].run_id}: {done.result()}", flush=True)


def _train(cell: Cell, root: Path, scratch: Path, bases: Path) -> str:
    """Train one run in a worker; returns what to print of it."""
    from gradience_train.offline import offline_and_quiet

    offline_and_quiet()  # before the line below imports transformers
    from benchmarks.diagnosis.train import train

    began = time.perf_counter()
    written = train(cell, root, scratch, bases)
    return f"{time.perf_counter() - began:.1f} s, {sum(path.stat().st_size for path in written)} bytes"


if __name__ == "__main__":
    main()
