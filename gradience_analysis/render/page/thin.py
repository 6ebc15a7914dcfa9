"""Long curves to as many points as a screen can show, with every spike still there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import itemgetter

Point = tuple[float, float]
_X = itemgetter(0)
_Y = itemgetter(1)
_FARTHEST = 1e300


def in_order(points: Sequence[Point]) -> Sequence[Point]:
    """The points in order of x, without those whose x is nowhere."""
    xs = [x for x, _ in points]
    ordered = sorted(xs)
    if not xs or (xs == ordered and xs[0] >= -_FARTHEST and xs[-1] <= _FARTHEST):
        return points
    # Comparisons with NaN are false, so this drops it too.
    return sorted((point for point in points if -_FARTHEST <= point[0] <= _FARTHEST), key=_X)


def stretches(points: Sequence[Point], *, above_zero: bool = False) -> tuple[list[Sequence[Point]], list[float]]:
    """The curve without its gaps: stretches of values that can be drawn, and the x of those that cannot.

    Args:
        points: In order of x.
        above_zero: Whether only values above 0 can be drawn.
    """
    least = 0.0 if above_zero else -math.inf
    ys = [y for _, y in points]
    if all(map(math.isfinite, ys)) and (not ys or min(ys) > least):
        return ([points] if points else []), []
    found: list[Sequence[Point]] = []
    gaps: list[float] = []
    begin = 0
    for place, y in enumerate(ys):
        if not (math.isfinite(y) and y > least):
            gaps.append(points[place][0])
            if place > begin:
                found.append(points[begin:place])
            begin = place + 1
    if begin < len(points):
        found.append(points[begin:])
    return found, gaps


def thinned(points: Sequence[Point], most: int) -> Sequence[Point]:
    """At most about `most` of the points: the first, the last, and the lowest and highest of each part between.

    Args:
        points: Finite, in order of x.
        most: At least 4.
    """
    if len(points) <= most:
        return points
    size = math.ceil(len(points) / ((most - 2) // 2))
    kept: list[Point] = [points[0]]
    for begin in range(0, len(points), size):
        part = points[begin : begin + size]
        low, high = min(part, key=_Y), max(part, key=_Y)
        kept += (low, high) if low[0] <= high[0] else (high, low)
    kept.append(points[-1])
    return kept
