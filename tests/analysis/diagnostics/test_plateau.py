"""Plateaus: the last part of a run that brings nothing, and ends that still bring something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.diagnostics import no_learning, plateau
from gradience_schema import Severity
from tests.analysis.diagnostics.curves import POLICY, diagnosed, evaluations, falling, found, measured, only, run_of


def plateaued(count: int = 200, *, at: float = 0.3, noise: float = 0.02) -> list[float]:
    """A loss that has fallen to 1.0 by a share of the run, and stays there."""
    return [max(1.0, 4.0 - 3.0 * place / (at * count)) * (1 + noise * (place % 5 - 2) / 2) for place in range(count)]


def test_a_long_plateau_is_worth_a_word(tmp_path: Path) -> None:
    """Given a loss that stays from a third of the run on, when judged, then an info says since when."""
    finding = only(plateau, run_of(tmp_path, plateaued()))
    assert finding.severity is Severity.INFO
    assert 60 <= finding.evidence["since_step"] <= 100


HEALTHY_ENDS: dict[str, tuple[list[float], dict[str, Any]]] = {
    "still falls": (falling(200), {}),
    "near zero": ([max(0.01, 4.0 - place / 10) for place in range(200)], {}),
    "goes on": (plateaued(), {"ended": False}),
    "too short": (plateaued(18), {}),
    "drops at the end": ([*plateaued(190), *([0.5] * 10)], {}),
}


@pytest.mark.parametrize("kind", HEALTHY_ENDS)
def test_what_is_no_plateau(tmp_path: Path, kind: str) -> None:
    """Given runs that still bring something, or have nowhere to go, when judged, then nothing is said."""
    losses, options = HEALTHY_ENDS[kind]
    assert found(plateau, run_of(tmp_path, losses, **options)) == []


def test_a_held_out_loss_that_still_falls_is_no_plateau(tmp_path: Path) -> None:
    """Given a training loss that stays while the held-out loss falls, when judged, then nothing is said."""
    more = evaluations("val", {40: 2.0, 80: 1.9, 120: 1.8, 160: 1.7, 200: 1.6})
    assert found(plateau, run_of(tmp_path, plateaued(), *more)) == []


def test_no_learning_hides_the_plateau(tmp_path: Path) -> None:
    """Given a loss that never fell, when diagnosed, then it is said once."""
    run = run_of(tmp_path, [3.0 + 0.05 * (place % 3) for place in range(200)])
    assert [one.code for one in diagnosed(run, plateau, no_learning).findings] == ["no_learning"]


def test_without_a_curve_it_is_not_measured(tmp_path: Path) -> None:
    """Given no loss, when measured, then there is a reason."""
    item = measured(plateau, run_of(tmp_path, []))
    assert item.value is None
    assert item.reason
    assert plateau.judge([item], POLICY) == []
