"""Levels of noisy curves: parts, their medians, and what chance does to them."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.series.levels import Level, level, levels, noise, relative_noise, uncertainty

CURVES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200).map(lambda values: list(enumerate(values)))


@given(CURVES, st.integers(1, 25), st.integers(1, 10))
def test_levels_share_out_the_curve(curve: list[tuple[int, float]], at_most: int, at_least: int) -> None:
    """Given any curve, when cut into parts, then each point is in one, in order, and no part is too small."""
    parts = levels(curve, at_most, at_least)
    assert 1 <= len(parts) <= at_most
    assert sum(part.size for part in parts) == len(curve)
    assert [step for part in parts for step in range(part.first, part.last + 1)] == [step for step, _ in curve]
    assert len(parts) == 1 or min(part.size for part in parts) >= at_least
    assert max(part.size for part in parts) - min(part.size for part in parts) <= 1
    for part in parts:
        assert part.value == pytest.approx(np.median([curve[step][1] for step in range(part.first, part.last + 1)]))


def test_nothing_has_no_levels() -> None:
    """Given an empty curve, when cut into parts, then there is none."""
    assert levels([], 20, 3) == []


def test_level_of_a_part_is_its_median() -> None:
    """Given three points, when their level is taken, then it is the median, with the steps it stands for."""
    assert level([(5, 3.0), (6, 9.0), (8, 4.0)]) == Level(5, 8, 4.0, 3)


@pytest.mark.parametrize("sigma", [0.01, 1.0])
def test_noise_is_that_of_the_values_around_their_course(sigma: float) -> None:
    """Given normal noise on a falling curve with outliers, when estimated, then it is the sigma it was made with."""
    draw = random.Random(7)
    curve = [(step, 4 * 0.99**step + draw.gauss(0, sigma)) for step in range(2000)]
    curve[500] = (500, 1000.0)
    assert noise(curve) == pytest.approx(sigma, rel=0.1)


@given(CURVES, st.floats(-1e3, 1e3))
def test_noise_does_not_depend_on_the_level(curve: list[tuple[int, float]], shift: float) -> None:
    """Given any curve, when all of it is moved, then its noise stays what it is."""
    moved = [(step, value + shift) for step, value in curve]
    assert noise(moved) == pytest.approx(noise(curve), abs=1e-6, nan_ok=True)


@given(st.lists(st.floats(0.01, 100.0), min_size=2, max_size=60), st.floats(0.1, 10.0))
def test_relative_noise_does_not_depend_on_the_unit(values: list[float], factor: float) -> None:
    """Given values above 0, when measured in another unit, then their relative noise is that of their logarithms."""
    logs = [(step, math.log(value)) for step, value in enumerate(values)]
    scaled = [(step, factor * value) for step, value in enumerate(values)]
    assert relative_noise(scaled, 1e-6) == pytest.approx(noise(logs), abs=1e-9)


def test_relative_noise_of_zeros_is_finite() -> None:
    """Given zeros, when their relative noise is taken, then they count as the least value."""
    assert relative_noise([(0, 0.0), (1, 1e-6), (2, 0.0)], 1e-6) == 0.0


def test_one_point_has_no_noise() -> None:
    """Given one point, when its noise is asked for, then it is undefined."""
    assert math.isnan(noise([(1, 2.0)]))


def test_uncertainty_is_what_medians_really_do() -> None:
    """Given many pairs of medians of normal values, when they differ, then by as much as was said."""
    draw = np.random.default_rng(3)
    first, second = np.median(draw.normal(size=(4000, 9)), axis=1), np.median(draw.normal(size=(4000, 25)), axis=1)
    said = uncertainty(1.0, Level(0, 0, 0.0, 9), Level(0, 0, 0.0, 25))
    assert said == pytest.approx(float(np.std(first - second)), rel=0.1)
