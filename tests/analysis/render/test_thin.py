"""Long curves keep their ends, their spikes and their gaps."""

from __future__ import annotations

import math
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.render.page.thin import in_order, stretches, thinned

POINTS = st.lists(st.tuples(st.integers(0, 10**6).map(float), st.floats()), max_size=300)


@given(st.integers(1, 4_000), st.randoms(use_true_random=False), st.integers(4, 200))
def test_ends_and_extremes_are_kept(count: int, random: Random, most: int) -> None:
    """Given a curve, when thinned, then it is no longer than asked, in order, and has its ends and extremes."""
    values = [random.gauss(0, 1) for _ in range(count)]
    points = [(float(x), y) for x, y in enumerate(values)]
    kept = thinned(points, most)
    assert len(kept) <= most
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)
    assert set(kept) <= set(points)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert {min(values), max(values)} <= {y for _, y in kept}


@given(POINTS, st.booleans())
def test_every_point_is_in_a_stretch_or_a_gap(points: list[tuple[float, float]], above_zero: bool) -> None:
    """Given any curve, when split, then stretches hold what can be drawn, in order, and gaps the x of all else."""
    ordered = in_order(points)
    parts, gaps = stretches(ordered, above_zero=above_zero)
    drawn = [y for part in parts for _, y in part]
    fits = [math.isfinite(y) and (y > 0 or not above_zero) for _, y in ordered]
    assert drawn == [y for (_, y), fit in zip(ordered, fits, strict=True) if fit]
    assert gaps == [x for (x, _), fit in zip(ordered, fits, strict=True) if not fit]
    assert all(parts)


def test_points_come_in_order_of_x() -> None:
    """Given points out of order and some without a place, when ordered, then those with a place are in order."""
    assert in_order([(3.0, 1.0), (1.0, 2.0), (math.nan, 3.0), (math.inf, 4.0)]) == [(1.0, 2.0), (3.0, 1.0)]
    in_place = ((1.0, math.nan), (2.0, 1.0))
    assert in_order(in_place) is in_place
