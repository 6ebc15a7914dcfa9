"""Medians, spread and slopes that single outliers do not move."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from typing import NamedTuple

MAD_TO_SIGMA = 1.4826
"""What the MAD of normally distributed values has to be multiplied with to give their standard deviation."""
_MAX_PAIRS_OF = 300


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones; NaN of nothing. Values must be finite."""
    return quantile(values, 0.5)


def quantile(values: Sequence[float], fraction: float) -> float:
    """The value below which this fraction lies, linear between neighbours (numpy's default); NaN of nothing.

    Args:
        values: Finite values, in any order.
        fraction: 0..1.
    """
    if not values:
        return math.nan
    ordered = sorted(values)
    place = fraction * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    # Weighted, so that the difference of two huge values stays within a double.
    return ordered[low] * (1 - (place - low)) + ordered[high] * (place - low)


def mad(values: Sequence[float], centre: float | None = None) -> float:
    """Median absolute deviation from the median, unscaled; NaN of nothing."""
    middle = median(values) if centre is None else centre
    return median([abs(value - middle) for value in values])


class Standing(NamedTuple):
    """How a value stands to the finite ones before it.

    Attributes:
        place: Its position in the sequence.
        median: Median of the window before it.
        mad: Unscaled median absolute deviation of that window from its median.
        seen: Number of values in that window.
    """

    place: int
    median: float
    mad: float
    seen: int


def risen(values: Sequence[float], window: int, share: float) -> Iterator[Standing]:
    """The places whose finite value lies above this share of the finite values before it.

    The rest cannot be a jump upwards, and is passed over without the cost of its MAD.

    Args:
        values: In order; one that is not finite is passed over.
        window: How many of the finite values before it count, at most.
        share: 0..1; at 0.8 a value must be above four in five.
    """
    for place, ordered in _windows(values, window):
        value = values[place]
        if ordered[int(share * (len(ordered) - 1))] < value < math.inf:
            middle = middle_of_sorted(ordered)
            yield Standing(place, middle, mad_of_sorted(ordered, middle), len(ordered))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Theil-Sen slope: the median of the slopes of all pairs, in y per x; NaN for fewer than two different x.

    Of more than 300 points, 300 evenly spaced ones are taken. Points must be finite. Source: Sen 1968.
    """
    if len(points) > _MAX_PAIRS_OF:
        last = len(points) - 1
        points = [points[round(place * last / (_MAX_PAIRS_OF - 1))] for place in range(_MAX_PAIRS_OF)]
    return median(
        [(y2 - y1) / (x2 - x1) for place, (x1, y1) in enumerate(points) for x2, y2 in points[place + 1 :] if x1 != x2]
    )


def middle_of_sorted(ordered: Sequence[float]) -> float:
    """Median of finite values that are in ascending order, at least one."""
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else ordered[half - 1] / 2 + ordered[half] / 2


def mad_of_sorted(ordered: Sequence[float], middle: float) -> float:
    """Median distance from `middle` of finite values that are in ascending order, at least one.

    The distances fall towards `middle` and rise behind it, so that the middle one is found by bisection:
    O(log n), where sorting them takes O(n log n).
    """
    count = len(ordered)
    low = _nearest(ordered, middle, (count - 1) // 2)
    return low if count % 2 else low / 2 + _nearest(ordered, middle, count // 2) / 2


def _nearest(ordered: Sequence[float], middle: float, rank: int) -> float:
    """The distance from `middle` that `rank` others do not exceed: the (rank + 1)-th smallest."""
    size = rank + 1
    low, high = max(0, bisect_right(ordered, middle) - size), min(bisect_left(ordered, middle), len(ordered) - size)
    # Of all windows of `size` neighbours, the one whose farther end is nearest holds the `size` nearest values.
    while low < high:
        half = (low + high) // 2
        if middle - ordered[half] > ordered[half + size - 1] - middle:
            low = half + 1
        else:
            high = half
    best = _farther(ordered, middle, low, size)
    return min(best, _farther(ordered, middle, low - 1, size)) if low else best


def _farther(ordered: Sequence[float], middle: float, first: int, size: int) -> float:
    return max(abs(middle - ordered[first]), abs(ordered[first + size - 1] - middle))


def _windows(values: Sequence[float], window: int) -> Iterator[tuple[int, list[float]]]:
    """Each place that has finite values before it, with up to `window` of them in ascending order: one list, reused."""
    ordered: list[float] = []
    kept: list[float] = []
    for place, value in enumerate(values):
        if ordered:
            yield place, ordered
        if math.isfinite(value):
            insort(ordered, value)
            kept.append(value)
            if len(kept) > window:
                del ordered[bisect_left(ordered, kept[-window - 1])]
