"""Trains one run and leaves its telemetry."""

from __future__ import annotations

import gc
import gzip
import multiprocessing
import shutil
import signal
from pathlib import Path

import torch

from benchmarks.diagnosis.audit import audit
from benchmarks.diagnosis.cells import Cell
from benchmarks.diagnosis.conditions import condition_of
from benchmarks.diagnosis.jobs import base_of, job_of
from benchmarks.diagnosis.plans import PLANS
from gradience import TelemetryWriter

_TORN_BYTES = 40


def train(cell: Cell, root: Path, scratch: Path, bases: Path) -> list[Path]:
    """Train one run and put its telemetry under `root`, in place of what was there.

    Each part of its plan runs in a process of its own, which a kill ends and whose memory is its own.

    Args:
        cell: Which run.
        root: Folder of all runs.
        scratch: Folder for what is thrown away.
        bases: Folder that keeps pre-trained base models.

    Returns:
        The files written: one for each segment.

    Raises:
        RuntimeError: A part ended as it should not.
    """
    recipe = condition_of(cell).recipe_of(cell)
    out = scratch / cell.run_id
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    base_of(cell.task, cell.size, cell.seed, bases)  # here, so that each part finds it in the memory it inherits
    for part in range(len(PLANS[recipe.plan])):
        process = multiprocessing.get_context("fork").Process(target=_train_part, args=(cell, out, bases, part))
        process.start()
        process.join()
        if process.exitcode not in {0, -signal.SIGKILL}:
            raise RuntimeError(f"part {part} of {cell.run_id} ended with exit code {process.exitcode}")
    if recipe.variant == "torn":
        _tear(out / "run.jsonl")
    if recipe.audit:
        _record_audit(out, recipe.steps)
    written = _pack(cell, out, root)
    shutil.rmtree(out)
    return written


def _train_part(cell: Cell, out: Path, bases: Path, part: int) -> None:
    torch.set_num_threads(1)
    job = job_of(cell, out, bases)
    gc.collect()
    PLANS[job.recipe.plan][part](job)


def _tear(path: Path) -> None:
    """Cut the last line in two, as a machine does that stops while it writes."""
    data = path.read_bytes()
    path.write_bytes(data[:-_TORN_BYTES])


def _record_audit(out: Path, step: int) -> None:
    with TelemetryWriter(out / "run.jsonl", if_exists="append") as writer:
        writer.metrics(step, kind="lora_audit", metrics=audit(out / "peft"))


def _pack(cell: Cell, out: Path, root: Path) -> list[Path]:
    """Compress the segments so that the same bytes give the same file: one beside the others, several in a folder."""
    segments = sorted(out.glob("run*.jsonl"), key=lambda path: (len(path.name), path.name))
    folder = root / cell.condition
    shutil.rmtree(folder / cell.name, ignore_errors=True)
    (folder / f"{cell.name}.jsonl.gz").unlink(missing_ok=True)
    alone = len(segments) == 1
    targets = [folder / f"{cell.name}.jsonl.gz"] if alone else [folder / cell.name / f"{s.name}.gz" for s in segments]
    for segment, target in zip(segments, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(gzip.compress(segment.read_bytes(), 9, mtime=0))
    return targets
