"""Levels of a noisy curve: medians of its parts, and how far chance alone would move them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from gradience_analysis.series.robust import MAD_TO_SIGMA, mad, median

_DIFFERENCES = 2000
# Standard deviation of the median of n normal values: sigma * sqrt(pi / 2) / sqrt(n).
_OF_MEDIAN = math.sqrt(math.pi / 2)
Curve = Sequence[tuple[int, float]]


class Level(NamedTuple):
    """The middle of a part of a curve.

    Attributes:
        first: First step of the part.
        last: Last step of the part.
        value: Median of its values.
        size: Number of its values.
    """

    first: int
    last: int
    value: float
    size: int


def level(points: Curve) -> Level:
    """The level of a curve, or of a part of it: at least one point with a finite value."""
    return Level(points[0][0], points[-1][0], median([value for _, value in points]), len(points))


def levels(points: Curve, at_most: int, at_least: int) -> list[Level]:
    """The levels of consecutive parts of nearly equal numbers of points; empty for an empty curve.

    Args:
        points: Finite values in order.
        at_most: How many parts at most.
        at_least: How many points a part has at least; a shorter curve is one part.
    """
    if not points:
        return []
    count = max(1, min(at_most, len(points) // at_least))
    cuts = [round(part * len(points) / count) for part in range(count + 1)]
    return [level(points[start:stop]) for start, stop in pairwise(cuts)]


def noise(points: Curve) -> float:
    """Standard deviation of single values around the course of the curve; NaN for fewer than two.

    Formula: 1.4826 * MAD of the differences of neighbours, over the square root of 2. Slow trends cancel, and single
    outliers do not count. Of a longer curve, some thousand evenly spaced differences are taken.
    """
    every = 1 + len(points) // _DIFFERENCES
    steps = [points[place + 1][1] - points[place][1] for place in range(0, len(points) - 1, every)]
    return mad(steps, 0.0) * MAD_TO_SIGMA / math.sqrt(2)


def relative_noise(points: Curve, least: float) -> float:
    """The same on a logarithmic scale, for values whose noise goes with their level; below `least` they count as it."""
    every = 1 + len(points) // _DIFFERENCES
    steps = [
        math.log(max(points[place + 1][1], least) / max(points[place][1], least))
        for place in range(0, len(points) - 1, every)
    ]
    return mad(steps, 0.0) * MAD_TO_SIGMA / math.sqrt(2)


def uncertainty(sigma: float, *parts: Level) -> float:
    """Standard deviation of the difference of levels (of one level: of itself), for this noise of single values."""
    return sigma * _OF_MEDIAN * math.sqrt(sum(1 / part.size for part in parts))
