"""Cases of the rules about single steps: T01 T02 T03 T07 T08 T09 T10 D07 V08, each from telemetry on disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradience_analysis.model import Finding
from tests.analysis.diagnostics.steps import declared, diagnosis, ended, logs, resumed
from tests.analysis.records import record
from tests.rules.case import Case, Fixture

NAN = math.nan
PEAK = 1e-3
Segments = Sequence[Sequence[Mapping[str, Any]]]


def of(*segments: Sequence[Mapping[str, Any]]) -> Fixture:
    """A run of these segments, read and diagnosed as `gradience monitor` does."""

    def run(folder: Path) -> Collection[Finding]:
        return diagnosis(folder, *segments).findings

    return run


def whole(*rows: Mapping[str, Any], **training: Any) -> Fixture:
    """A run in one piece with a clean end."""
    return of(ended([declared(lr=PEAK, **training), *rows]))


def linear(step: int) -> float:
    """10 steps of warm-up, down to 0 at step 200."""
    return PEAK * step / 10 if step < 10 else PEAK * (200 - step) / 190


LINEAR: dict[str, Any] = {"lr_scheduler": "linear", "warmup_steps": 10, "max_steps": 200}
FOUR_EPOCHS: dict[str, Any] = {
    "num_train_examples": 1000,
    "batch_size": 8,
    "gradient_accumulation": 4,
    "world_size": 1,
    "epochs": 4.0,
}
"""ceil(1000 / 32) = 32 steps an epoch, 128 in all."""


def joined(after: Callable[[int], float]) -> Fixture:
    """A run that was cut off at step 66 and resumed from step 60, with the losses after it as given."""

    def loss(step: int) -> float:
        return 2.0 * 0.985**step + 0.5

    first = [declared(lr=PEAK, **LINEAR), *logs(range(2, 67, 2), lr=linear, loss=loss)]
    second = logs(range(62, 201, 2), lr=linear, loss=lambda step: after(step) * loss(step))
    return of(first, ended([resumed(declared(lr=PEAK, **LINEAR), 60), *second]))


def rolled_back(*steps: int) -> Fixture:
    """A run whose guard went back to each of these steps."""
    acts = [
        record(
            "metrics", 40 + place, ts=50.0 + place, kind="guard", metrics={"action": "rollback", "restored_step": step}
        )
        for place, step in enumerate(steps)
    ]
    return whole(*logs(range(1, 41)), *acts)


CASES: dict[str, Case] = {
    # A loss that is NaN in the log; one that is high, but a number.
    "T01": Case(whole(*logs(range(1, 21)), *logs([21], loss=NAN)), whole(*logs(range(1, 21)), *logs([21], loss=1e30))),
    # A loss of 0.0 with a NaN norm; one with a norm that is a number.
    "T02": Case(
        whole(*logs(range(1, 21)), *logs(range(21, 24), loss=0.0, grad_norm=NAN)),
        whole(*logs(range(1, 21)), *logs(range(21, 24), loss=0.0, grad_norm=0.1)),
    ),
    # Three norms a hundred times above the usual; two of them.
    "T03": Case(
        whole(*logs(range(1, 101), grad_norm=lambda step: 100.0 if step in {50, 70, 90} else 1.0 + step % 5 / 10)),
        whole(*logs(range(1, 101), grad_norm=lambda step: 100.0 if step in {50, 70} else 1.0 + step % 5 / 10)),
    ),
    # Rates that stay at the peak; rates of the declared schedule, one of them a slip.
    "T07": Case(
        whole(*logs(range(2, 101, 2), lr=PEAK), **LINEAR),
        whole(*logs(range(2, 101, 2), lr=lambda step: PEAK if step == 50 else linear(step)), **LINEAR),
    ),
    # Ten norms of 0 in a row; nine.
    "T08": Case(
        whole(*logs(range(1, 31), grad_norm=lambda step: 0.0 if step > 20 else 1.0)),
        whole(*logs(range(1, 31), grad_norm=lambda step: 0.0 if step > 21 else 1.0)),
    ),
    # A loss that is three times as high after a resume; one that goes on within the noise of a device.
    "T09": Case(joined(lambda _: 3.0), joined(lambda step: 1.0 + 1e-4 * (step % 2))),
    # Two rollbacks to one step; to two.
    "T10": Case(rolled_back(20, 20), rolled_back(20, 30)),
    # Losses that are NaN with gradients of exactly 0; with a gradient.
    "D07": Case(
        whole(*logs(range(2, 41, 2), loss=NAN, grad_norm=0.0)), whole(*logs(range(2, 41, 2), loss=NAN, grad_norm=0.01))
    ),
    # The steps that there would be without accumulation; those of loaders that drop their last batch.
    "V08": Case(
        whole(*logs(range(1, 31)), max_steps=500, **FOUR_EPOCHS),
        whole(*logs(range(1, 31)), max_steps=124, **FOUR_EPOCHS),
    ),
}
