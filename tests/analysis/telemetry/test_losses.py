"""The training loss as a curve: what is left out of it, and when there is none."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.telemetry.assemble import load_run
from gradience_analysis.telemetry.losses import training_losses
from tests.analysis.records import record, start, write


def curve_of(folder: Path, losses: list[float], **fields: Any) -> list[float] | str:
    """The curve of a run that logs these losses, without its steps."""
    rows = [record("train_step", step, loss=loss, **fields) for step, loss in enumerate(losses)]
    curve = training_losses(load_run(write(folder / "run.jsonl", [start(), *rows])))
    return curve if isinstance(curve, str) else [loss for _, loss in curve]


@pytest.mark.parametrize(
    ("losses", "kept"),
    [
        ([2.0, math.nan, 1.0, math.inf, 0.5], [2.0, 1.0, 0.5]),
        ([2.0, 0.0, 1.0, 0.0, 0.5], [2.0, 1.0, 0.5]),
        ([0.0, 2.0, 1.0], [2.0, 1.0]),
        ([1.0, 0.1, 0.004, 0.0, 0.0, 0.001], [1.0, 0.1, 0.004, 0.0, 0.0, 0.001]),
    ],
    ids=["not finite", "zero in the place of NaN", "zero at the start", "really zero"],
)
def test_what_is_no_loss_is_left_out(tmp_path: Path, losses: list[float], kept: list[float]) -> None:
    """Given losses among which some are none, when the curve is taken, then the others stay, in order."""
    assert curve_of(tmp_path, losses) == kept


@pytest.mark.parametrize(
    ("losses", "fields", "words"),
    [
        ([], {}, "no finite training loss"),
        ([math.nan], {}, "no finite training loss"),
        ([0.0, 0.0, 0.0], {}, "every logged loss is 0.0"),
        ([0.1, -0.1, 0.2], {}, "reinforcement learning"),
        ([0.1, 0.2, 0.3], {"reward": 1.0}, "Log the reward"),
    ],
    ids=["none", "NaN alone", "zeros", "negative", "reward"],
)
def test_what_is_no_curve_says_why(tmp_path: Path, losses: list[float], fields: dict[str, float], words: str) -> None:
    """Given losses whose level says nothing, when the curve is taken, then there is a sentence in its place."""
    reason = curve_of(tmp_path, losses, **fields)
    assert isinstance(reason, str)
    assert words in reason
