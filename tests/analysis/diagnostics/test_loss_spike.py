"""Loss spikes: planted ones are found at their steps, and noise is none."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gradience_analysis.diagnostics import loss_spike
from gradience_schema import Severity
from tests.analysis.diagnostics.curves import POLICY, falling, found, measured, only, run_of
from tests.analysis.diagnostics.test_divergence import curve_only


def spiked(*places: int, height: float = 6.0, count: int = 200) -> list[float]:
    """A healthy curve with a jump at each of these places."""
    losses = falling(count, noise=0.05)
    for place in places:
        losses[place] = height
    return losses


def test_a_spike_is_a_warning_with_its_step(tmp_path: Path) -> None:
    """Given one jump, when judged, then the finding names its step, its height and where the loss was back."""
    finding = only(loss_spike, run_of(tmp_path, spiked(100), every=5))
    assert (finding.rule, finding.severity) == ("T04", Severity.WARNING)
    assert [(place.step, place.line) for place in finding.places] == [(505, 102)]
    assert finding.evidence["spikes"][0]["peak"] == 6.0
    assert finding.evidence["spikes"][0]["back_step"] == 510
    assert "step 505" in finding.message


def test_several_spikes_are_one_finding(tmp_path: Path) -> None:
    """Given three jumps, one of two losses, when judged, then they are counted as three, with their steps."""
    finding = only(loss_spike, run_of(tmp_path, spiked(100, 101, 140, 180)))
    assert finding.evidence["count"] == 3
    assert [place.step for place in finding.places] == [101, 141, 181]
    assert "3 times" in finding.message


def test_a_jump_at_the_end_has_not_come_back(tmp_path: Path) -> None:
    """Given a jump at the end, when it is one log, then nothing is said yet, and of two that it has not come back."""
    assert found(loss_spike, run_of(tmp_path, spiked(199))) == []
    assert "has not come back" in only(loss_spike, run_of(tmp_path, spiked(198, 199))).message


def test_zeros_in_the_place_of_nan_are_no_level_to_jump_from(tmp_path: Path) -> None:
    """Given losses of 0.0 where a trainer hid a NaN, when judged, then the loss behind them is no spike."""
    losses = falling(200, noise=0.05)
    losses[100:140] = [0.0] * 40
    assert found(loss_spike, run_of(tmp_path, losses)) == []


@pytest.mark.parametrize("noise", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("count", [20, 200, 2000])
def test_normal_noise_is_no_spike(tmp_path: Path, noise: float, count: int) -> None:
    """Given healthy curves with more or less noise, when judged, then nothing is said."""
    for seed in range(10):
        assert found(loss_spike, run_of(tmp_path, falling(count, noise=noise, seed=seed))) == []


def test_long_tails_are_what_this_run_usually_has(tmp_path: Path) -> None:
    """Given a batch of four labels, some of them wrong, when judged, then its large losses are no spikes."""
    for seed in range(10):
        draw = random.Random(seed)
        rows = ([0.05 if draw.random() > 0.06 else 2.5 for _ in range(4)] for _ in range(300))
        losses = [math.fsum(row) / 4 + 0.02 * draw.random() for row in rows]
        assert found(loss_spike, run_of(tmp_path, losses)) == []


def test_multiples_of_nearly_nothing_are_no_spike(tmp_path: Path) -> None:
    """Given a loss that fell from 4 to 0.001, when it is 0.05 once, then it is no spike."""
    losses = [4 * 0.9**place + 0.001 for place in range(150)]
    losses[140] = 0.05
    assert found(loss_spike, run_of(tmp_path, losses)) == []


def test_too_little_before_is_no_course_to_jump_from(tmp_path: Path) -> None:
    """Given a jump within the first losses, when judged, then nothing is said; later on it is."""
    least = int(POLICY.limit("loss_spike.least"))
    losses = [2.0, 2.1] * 20
    for place, expected in ((least - 1, False), (least, True)):
        jumped = [*losses[:place], 9.0, *losses[place + 1 :]]
        assert bool(found(loss_spike, run_of(tmp_path, jumped))) is expected


def test_a_constant_loss_has_a_spread_of_a_hundredth(tmp_path: Path) -> None:
    """Given a loss of 2.0 that is 4.0 once, when measured, then it is 100 of its least spreads above."""
    losses = [2.0] * 60
    losses[40] = 4.0
    run = run_of(tmp_path, losses)
    assert measured(loss_spike, run).value == pytest.approx(100.0)
    assert only(loss_spike, run).places[0].step == 41


@pytest.mark.parametrize(("losses", "words"), [([1.0] * 5, "5 logged values"), ([], "no finite")])
def test_what_cannot_be_measured_says_why(tmp_path: Path, losses: list[float], words: str) -> None:
    """Given too few losses, when measured, then there is a reason."""
    item = measured(loss_spike, run_of(tmp_path, losses))
    assert item.value is None
    assert words in item.reason
    assert loss_spike.judge([item], POLICY) == []


@given(st.lists(st.floats(0.0, 10.0), min_size=6, max_size=120))
def test_a_falling_curve_never_spikes(losses: list[float]) -> None:
    """Given any curve that only falls, when judged, then there is no spike and no rise to list."""
    run = curve_only(sorted(losses, reverse=True))
    assert found(loss_spike, run) == []
    assert measured(loss_spike, run).details.get("rises", []) == []


@given(st.lists(st.floats(1.0, 10.0), min_size=6, max_size=80), st.sampled_from([0.25, 8.0]))
def test_units_of_the_loss_do_not_matter(losses: list[float], factor: float) -> None:
    """Given any curve, when its loss is measured in another unit, then the same steps are found."""
    plain, scaled = (curve_only(values) for values in (losses, [factor * loss for loss in losses]))
    assert [rise["step"] for rise in measured(loss_spike, plain).details["rises"]] == [
        rise["step"] for rise in measured(loss_spike, scaled).details["rises"]
    ]
    assert bool(found(loss_spike, plain)) == bool(found(loss_spike, scaled))


@given(st.integers(20, 190), st.floats(0.0, 3.0))
def test_a_constant_does_not_move_the_spikes(place: int, shift: float) -> None:
    """Given a clear jump, when a constant is added to the loss, then it is found at the same step."""
    losses = [loss + shift for loss in spiked(place, height=20.0)]
    assume(losses[place] == 20.0 + shift)
    (finding,) = found(loss_spike, curve_only(losses))
    assert [spike["step"] for spike in finding.evidence["spikes"]] == [place + 1]
