"""Divergence: a loss that rises and stays, and what only looks like it."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.diagnostics import divergence, loss_spike, no_learning, plateau
from gradience_analysis.model import Run, Segment
from gradience_schema import Severity
from tests.analysis.diagnostics.curves import POLICY, diagnosed, falling, found, measured, only, run_of


def risen(count: int = 100, *, to: float, at: float = 0.6) -> list[float]:
    """A loss that falls to about 0.5 and then rises to a level, where it stays."""
    draw = random.Random(3)
    turn = int(at * count)
    return [*falling(turn), *(to * (1 + draw.gauss(0, 0.05)) for _ in range(count - turn))]


def test_loss_above_its_start_is_an_error(tmp_path: Path) -> None:
    """Given a loss that falls from 4 to 0.5 and ends at 8, when judged, then it is an error that names the levels."""
    finding = only(divergence, run_of(tmp_path, risen(to=8.0)))
    assert finding.severity is Severity.ERROR
    assert "started from" in finding.message
    assert finding.evidence["best"] == pytest.approx(0.6, abs=0.1)
    assert finding.evidence["end"] == pytest.approx(8.0, rel=0.1)
    assert finding.evidence["left_at"] == 61
    assert "step 60" in finding.advice
    assert all(place.line for place in finding.places)


@pytest.mark.parametrize(("to", "expected"), [(1.5, False), (3.5, True)])
def test_loss_that_has_lost_its_fall_is_an_error(tmp_path: Path, to: float, expected: bool) -> None:
    """Given a loss that gives back less, or more, than half of its fall, when judged, then only the latter is said."""
    findings = found(divergence, run_of(tmp_path, risen(to=to)))
    assert bool(findings) is expected
    assert not expected or "of its fall is lost" in findings[0].message


def test_loss_that_blows_up_at_once_is_above_its_start(tmp_path: Path) -> None:
    """Given a loss that jumps within the first part of the run and stays, when judged, then it is found."""
    losses = [4.0, 4.1, 4.0, *(30.0 * 0.97**place + 7 for place in range(117))]
    assert only(divergence, run_of(tmp_path, losses)).evidence["start"] == 4.0


@pytest.mark.parametrize(("end", "expected"), [(0.4, False), (0.8, True)])
def test_a_blow_up_that_is_never_got_over_is_an_error(tmp_path: Path, end: float, expected: bool) -> None:
    """Given a loss of 1.0 that jumps to 8, when it comes back to below half, or not, then only the latter is said."""
    draw = random.Random(5)
    losses = [1.0, *(max(end, 8.0 * 0.9**place) * (1 + draw.gauss(0, 0.05)) for place in range(99))]
    findings = found(divergence, run_of(tmp_path, losses))
    assert bool(findings) is expected
    assert not expected or "has come back to" in findings[0].message


def test_a_first_log_that_is_low_by_chance_is_no_start(tmp_path: Path) -> None:
    """Given losses of small batches that vary by a factor of five, when the first is low, then nothing is said."""
    draw = random.Random(6)
    losses = [0.1, *(0.5 * 5 ** draw.uniform(-1, 1) for _ in range(99))]
    assert found(divergence, run_of(tmp_path, losses)) == []


@pytest.mark.parametrize("noise", [0.02, 0.3])
@pytest.mark.parametrize("count", [10, 40, 400])
def test_noise_is_no_divergence(tmp_path: Path, noise: float, count: int) -> None:
    """Given healthy and flat curves with much noise, when judged, then nothing is said."""
    for seed in range(20):
        assert found(divergence, run_of(tmp_path, falling(count, noise=noise, seed=seed))) == []
        flat = falling(count, first=2.0, last=2.0, noise=noise, seed=seed)
        assert found(divergence, run_of(tmp_path, flat)) == []


def test_loss_near_zero_may_rise_by_multiples(tmp_path: Path) -> None:
    """Given a loss that falls from 4 to 0.001 and ends at 0.01, when judged, then next to nothing is lost."""
    losses = [*(4 * 0.8**place + 0.001 for place in range(60)), *([0.01] * 30)]
    assert found(divergence, run_of(tmp_path, losses)) == []


def test_a_loss_that_comes_back_is_a_spike_and_one_that_stays_is_not(tmp_path: Path) -> None:
    """Given a jump that comes back, and one that stays, when diagnosed, then each has its one finding."""
    back = falling(200, noise=0.02)
    back[120:124] = [6.0, 7.0, 6.0, 4.0]
    assert [
        one.code for one in diagnosed(run_of(tmp_path, back), loss_spike, divergence, no_learning, plateau).findings
    ] == ["loss_spike"]
    stays = run_of(tmp_path, risen(200, to=8.0))
    assert [one.code for one in diagnosed(stays, loss_spike, divergence, no_learning, plateau).findings] == [
        "divergence"
    ]


@pytest.mark.parametrize(
    ("losses", "words"),
    [([], "no finite training loss"), ([1.0] * 9, "9 losses"), ([0.1, -0.1] * 9, "reinforcement")],
)
def test_what_cannot_be_measured_says_why(tmp_path: Path, losses: list[float], words: str) -> None:
    """Given too few losses, or none whose level means something, when measured, then there is a reason."""
    item = measured(divergence, run_of(tmp_path, losses))
    assert item.value is None
    assert words in item.reason
    assert divergence.judge([item], POLICY) == []


def test_loss_that_never_fell_has_no_share(tmp_path: Path) -> None:
    """Given a loss that only rises, when measured, then the share of its fall is undefined, and it is found."""
    run = run_of(tmp_path, [1.0 + place / 10 for place in range(40)])
    assert math.isnan(float(measured(divergence, run).value or 0))
    assert "above" in only(divergence, run).message


CURVES = st.lists(st.floats(0.1, 10.0), min_size=10, max_size=80)


@given(CURVES, st.sampled_from([0.25, 4.0]))
def test_units_of_the_loss_do_not_matter(losses: list[float], factor: float) -> None:
    """Given any curve, when its loss is measured in another unit, then the same is found."""
    plain, scaled = (curve_only(values) for values in (losses, [factor * loss for loss in losses]))
    assert bool(found(divergence, plain)) == bool(found(divergence, scaled))


@given(CURVES)
def test_a_falling_curve_never_diverges(losses: list[float]) -> None:
    """Given any curve that only falls, when judged, then nothing is said."""
    run = curve_only(sorted(losses, reverse=True))
    assert found(divergence, run) == []


def curve_only(losses: list[float]) -> Run:
    """A run that is nothing but a curve."""
    run = Run("", "r", (Segment("", 0, 0, ()),), ())
    run.__dict__["all_series"] = {"loss": list(enumerate(losses, 1))}
    return run
