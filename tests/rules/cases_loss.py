"""Rules about the curve of the loss: T04, T05, T06, on runs written to files and read as any other."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from gradience_analysis.diagnostics import DIAGNOSTICS, diagnose
from gradience_analysis.model import Finding
from gradience_analysis.policy import load_policy
from gradience_analysis.telemetry.assemble import load_run
from tests.analysis.records import end, evaluation, record, start, write
from tests.rules.case import Case, Fixture

_STEPS = 120


def _examined(losses: Sequence[float], held_out: Mapping[int, float] | None = None) -> Fixture:
    """A run with these losses, a log a step, and a held-out loss at some steps; everything that is found in it."""

    def fixture(folder: Path) -> Collection[Finding]:
        rows = [start()]
        for step, loss in enumerate(losses, 1):
            rows.append(record("train_step", step, ts=float(step), loss=loss, lr=1e-4, grad_norm=1.0))
            if held_out and step in held_out:
                rows.append(evaluation(step, "eval", ts=float(step), loss=held_out[step]))
        run = load_run(write(folder / "run.jsonl", [*rows, end()]))
        return diagnose(run, DIAGNOSTICS, load_policy()).findings

    return fixture


def _falling(last: float, **changed: float) -> list[float]:
    """A loss from 3.0 to `last` with the noise of small batches, with other values at some steps (`at_90=5.0`)."""
    draw = random.Random(4)
    losses = [(last + (3.0 - last) * 0.96**step) * (1 + draw.gauss(0, 0.08)) for step in range(_STEPS)]
    for name, loss in changed.items():
        losses[int(name.removeprefix("at_"))] = loss
    return losses


def _held_out(*losses: float) -> dict[int, float]:
    """These held-out losses, one each twenty steps."""
    return {20 * place: loss for place, loss in enumerate(losses, 1)}


CASES: dict[str, Case] = {
    "T04": Case(trips=_examined(_falling(0.5, at_90=5.0)), passes=_examined(_falling(0.5, at_90=0.85))),
    "T05": Case(trips=_examined(_falling(2.95)), passes=_examined(_falling(2.4))),
    "T06": Case(
        trips=_examined(_falling(0.5), _held_out(2.0, 1.4, 1.2, 1.24, 1.27, 1.3)),
        passes=_examined(_falling(0.5), _held_out(2.0, 1.4, 1.2, 1.21, 1.215, 1.22)),
    ),
}
