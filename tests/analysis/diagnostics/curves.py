"""Builds runs from curves of losses, and asks one diagnostic about them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradience_analysis.diagnostics import Diagnosis, Diagnostic, diagnose
from gradience_analysis.model import Finding, Measurement, Run
from gradience_analysis.policy import Policy, load_policy
from gradience_analysis.telemetry.assemble import load_run
from tests.analysis.records import end, evaluation, record, start, write

POLICY = load_policy()


def run_of(
    folder: Path,
    losses: Sequence[float],
    *more: dict[str, Any],
    every: int = 1,
    ended: bool = True,
    fields: Mapping[str, Sequence[float]] | None = None,
) -> Run:
    """A run that logs these losses, one each `every` steps, with further records (evaluations) in between.

    Args:
        folder: Where to write it.
        losses: In order, from step `every` on.
        more: Records with a step, which come behind the train_step of that step.
        every: Steps between two logs.
        ended: Whether it has its run_end.
        fields: Further fields of the train_steps, such as `lr`.
    """
    rows: list[tuple[int, dict[str, Any]]] = []
    for place, loss in enumerate(losses):
        step = (place + 1) * every
        also: dict[str, Any] = {name: values[place] for name, values in (fields or {}).items()}
        rows.append((2 * step, record("train_step", step, ts=float(step), loss=loss, **also)))
    rows += [(2 * row["step"] + 1, row | {"ts": row["step"] + 0.5}) for row in more]
    last = len(losses) * every + 10.0
    ordered = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
    return load_run(write(folder / "run.jsonl", [start(), *ordered, *([end(ts=last)] if ended else [])]))


def evaluations(split: str, pairs: Mapping[int, float], **more: Mapping[int, float]) -> list[dict[str, Any]]:
    """Evaluations of a split: its loss by step, and further metrics by step."""
    return [
        evaluation(step, split, **dict[str, Any](loss=loss, **{name: values[step] for name, values in more.items()}))
        for step, loss in pairs.items()
    ]


def falling(count: int, *, first: float = 4.0, last: float = 0.5, noise: float = 0.05, seed: int = 1) -> list[float]:
    """A loss that falls like a healthy one, with relative noise."""
    draw = random.Random(seed)
    rate = 4 / count
    return [
        (last + (first - last) * 2.718281828 ** (-rate * place)) * max(0.1, 1 + draw.gauss(0, noise))
        for place in range(count)
    ]


def found(diagnostic: Diagnostic, run: Run, policy: Policy = POLICY) -> list[Finding]:
    """What one diagnostic finds."""
    return diagnostic.judge(diagnostic.measure(run), policy)


def only(diagnostic: Diagnostic, run: Run) -> Finding:
    """The one finding of one diagnostic."""
    (finding,) = found(diagnostic, run)
    return finding


def measured(diagnostic: Diagnostic, run: Run) -> Measurement:
    """The one measurement of one diagnostic."""
    (measurement,) = diagnostic.measure(run)
    return measurement


def diagnosed(run: Run, *diagnostics: Diagnostic) -> Diagnosis:
    """What several find together."""
    return diagnose(run, diagnostics, POLICY)
