"""A curve in one line of characters."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_PLAIN = "_.-=+*#@"
_MANY = 3


def sparkline(points: Sequence[tuple[float, float]], width: int, *, plain: bool = False) -> str:
    """The curve from its lowest to its highest value over `width` characters, evenly spaced in x.

    A column is the mean of the finite values in it; `!` marks one that holds a value that is not finite, and a
    column without points is filled from its left neighbour. Empty for fewer than three points.
    """
    if len(points) < _MANY or width < 1:
        return ""
    columns = _columns(points, min(width, len(points)))
    finite = [value for value in columns if value is not None and math.isfinite(value)]
    if not finite:
        return "!" * len(columns)
    low, high = min(finite), max(finite)
    glyphs = _PLAIN if plain else _BLOCKS
    return "".join(
        "!" if value is None or not math.isfinite(value) else glyphs[_level(value, low, high)] for value in columns
    )


def _level(value: float, low: float, high: float) -> int:
    # Halved before subtracting, so that the range of two huge values stays within a double.
    span = high / 2 - low / 2
    return 0 if span == 0 else min(len(_BLOCKS) - 1, int((value / 2 - low / 2) / span * len(_BLOCKS)))


def _columns(points: Sequence[tuple[float, float]], width: int) -> list[float | None]:
    """Mean of each of `width` equal stretches of x; NaN where a value is not finite. Points are in order of x."""
    steps = [x for x, _ in points]
    values = [y for _, y in points]
    start, end = steps[0], steps[-1]
    columns: list[float | None] = []
    left = 0
    for column in range(1, width + 1):
        edge = start + (end - start) * column / width
        right = len(points) if column == width else bisect.bisect_left(steps, edge, left)
        if right > left:
            columns.append(_mean(values[left:right]))
        else:
            columns.append(columns[-1] if columns else None)
        left = right
    return columns


def _mean(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    if math.isfinite(mean):
        return mean
    # Either a value is not finite, or the sum of huge ones is not.
    return math.fsum(value / len(values) for value in values) if all(map(math.isfinite, values)) else math.nan
