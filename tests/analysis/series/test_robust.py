"""Medians, spreads and slopes in plain Python, against numpy computing the same from scratch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.series import robust

FINITE = st.floats(-1e9, 1e9)
ANY = st.one_of(FINITE, st.sampled_from([math.nan, math.inf, -math.inf]))
VALUES = st.lists(st.one_of(FINITE, st.integers(-3, 3).map(float)), min_size=1, max_size=60)


def spread(values: list[float], centre: float) -> float:
    """The MAD as numpy has it."""
    return float(np.median(np.abs(np.asarray(values) - centre)))


def before(values: list[float], place: int, window: int) -> list[float]:
    """The last finite values before a place, found by looking at all."""
    return [value for value in values[:place] if math.isfinite(value)][-window:]


@given(VALUES, st.floats(0, 1))
def test_quantile_is_that_of_numpy(values: list[float], fraction: float) -> None:
    """Given any values, when a quantile is taken, then it is numpy's."""
    assert robust.quantile(values, fraction) == pytest.approx(np.quantile(values, fraction), rel=1e-9, abs=1e-6)


@given(VALUES)
def test_median_and_mad_are_those_of_numpy(values: list[float]) -> None:
    """Given any values, when median and MAD are taken, then they are numpy's."""
    middle = float(np.median(values))
    assert robust.median(values) == pytest.approx(middle, rel=1e-12, abs=1e-9)
    assert robust.mad(values) == pytest.approx(spread(values, middle), rel=1e-9, abs=1e-6)


@given(VALUES, FINITE)
def test_mad_by_bisection_is_the_mad_by_sorting(values: list[float], centre: float) -> None:
    """Given sorted values and any centre, when the MAD is found by bisection, then it is that of all the distances."""
    found = robust.mad_of_sorted(sorted(values), centre)
    assert found == pytest.approx(spread(values, centre), rel=1e-12, abs=1e-12)


@given(st.lists(ANY, max_size=40), st.integers(1, 12), st.sampled_from([0.0, 0.5, 0.8, 1.0]))
def test_risen_leaves_out_only_what_lies_low(values: list[float], window: int, share: float) -> None:
    """Given any values, when the risen ones are sought, then they are those above that share of the ones before."""
    risen = {one.place: one for one in robust.risen(values, window, share)}
    for place, value in enumerate(values):
        mine = sorted(before(values, place, window))
        if mine and math.isfinite(value) and value > mine[int(share * (len(mine) - 1))]:
            middle = float(np.median(mine))
            assert risen[place].median == pytest.approx(middle, rel=1e-12, abs=1e-9)
            assert risen[place].mad == pytest.approx(spread(mine, middle), rel=1e-9, abs=1e-6)
            assert risen[place].seen == len(mine)
        else:
            assert place not in risen


@given(
    st.floats(-100, 100), st.floats(-100, 100), st.lists(st.integers(-100, 100), min_size=2, max_size=30, unique=True)
)
def test_slope_of_a_line_is_its_slope_whatever_one_point_does(rise: float, height: float, places: list[int]) -> None:
    """Given points on a line, when one of five or more is moved far away, then the slope is that of the line."""
    points = [(float(x), rise * x + height) for x in places]
    if len(points) >= 8:
        points[0] = (points[0][0], 1e6)
    assert robust.slope(points) == pytest.approx(rise, rel=1e-6, abs=1e-6)


def test_slope_of_many_points_is_taken_from_some() -> None:
    """Given ten thousand points on a line, when the slope is taken, then it is that of the line."""
    assert robust.slope([(float(x), 0.5 * x) for x in range(10_000)]) == pytest.approx(0.5)


@pytest.mark.parametrize("points", [[], [(1.0, 2.0)], [(1.0, 2.0), (1.0, 3.0)]])
def test_slope_of_one_place_is_undefined(points: list[tuple[float, float]]) -> None:
    """Given fewer than two different x, when the slope is taken, then it is NaN."""
    assert math.isnan(robust.slope(points))


def test_nothing_has_no_median() -> None:
    """Given no values, when median, MAD and quantile are taken, then they are NaN."""
    assert all(math.isnan(value) for value in (robust.median([]), robust.mad([]), robust.quantile([], 0.3)))
