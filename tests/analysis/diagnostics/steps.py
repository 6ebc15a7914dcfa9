"""Runs step by step, for the diagnostics that look at single steps: written to files and read by the real reader."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradience_analysis.diagnostics import DIAGNOSTICS, Diagnosis, diagnose
from gradience_analysis.model import Finding
from gradience_analysis.policy import load_policy
from gradience_analysis.telemetry.assemble import load_run
from tests.analysis.records import CONFIG, end, record, write

POLICY = load_policy()


def declared(*, lr: float | None = None, groups: list[float] | None = None, **training: Any) -> dict[str, Any]:
    """A run_start with these numbers in its configuration over the usual ones."""
    config: dict[str, Any] = copy.deepcopy(CONFIG)
    config["training"] |= training
    if lr is not None:
        config["optimizer"]["lr"] = lr
    if groups is not None:
        config["optimizer"]["extras"] = {"group_lrs": groups}
    return record("run_start", config=config, meta={})


def resumed(start: Mapping[str, Any], step: int | None, **meta: Any) -> dict[str, Any]:
    """The run_start of a segment that went on from this step."""
    told = {} if step is None else {"resume_step": step}
    return {**start, "ts": 5000.0, "meta": {"segment": 1, "parent_segment": 0, **told, **meta}}


def logs(steps: Iterable[int], **fields: Callable[[int], Any] | Any) -> list[dict[str, Any]]:
    """Train steps whose fields are constants or functions of the step; without others, those of a sound run."""
    sound: dict[str, Any] = {"loss": lambda step: 2.0 * 0.99**step + 0.5, "grad_norm": lambda step: 1.0 + step % 3 / 10}
    named = {**sound, **fields}
    return [
        record(
            "train_step",
            step,
            ts=float(step),
            **{
                name: value(step) if callable(value) else value
                for name, value in named.items()
                if value is not None or name == "loss"
            },
        )
        for step in steps
    ]


def diagnosis(folder: Path, *segments: Sequence[Mapping[str, Any]]) -> Diagnosis:
    """What every diagnostic says about a run of these segments, each a file of its own."""
    for index, rows in enumerate(segments):
        write(folder / ("run.jsonl" if index == 0 else f"run.{index}.jsonl"), rows)
    return diagnose(load_run(folder), DIAGNOSTICS, POLICY)


def findings(folder: Path, *segments: Sequence[Mapping[str, Any]]) -> dict[str, Finding]:
    """The same, by code."""
    return {finding.code: finding for finding in diagnosis(folder, *segments).findings}


def ended(rows: Sequence[Mapping[str, Any]], **fields: Any) -> list[Mapping[str, Any]]:
    """The rows with a clean end."""
    return [*rows, end(ts=9000.0, **fields)]
