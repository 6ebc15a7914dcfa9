"""The rows of a heat strip as characters: eight heights of a block, or ten digits where only ASCII can be shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradience_analysis.model import Heat
from gradience_analysis.render.inert import inert

BLOCKS = "▁▂▃▄▅▆▇█"
DIGITS = "0123456789"
NOTHING, UNDEFINED = "·", "!"
_NOTHING_PLAIN = "."
_WIDEST = 3
STEPS = (1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 50, 64, 100, 200, 500, 1000)
"""Columns from one name to the next."""


@dataclass(frozen=True, slots=True)
class Binned:
    """The columns of a heat strip, put together so that they fit.

    Attributes:
        size: Columns of the heat strip in each cell; the last cell may hold fewer.
        rows: Of each row, the mean of each cell: None where it has nothing, NaN where a value of it is undefined.
    """

    size: int
    rows: tuple[tuple[float | None, ...], ...]

    @property
    def cells(self) -> int:
        """Cells in a row."""
        return len(self.rows[0]) if self.rows else 0


def binned(heat: Heat, most: int) -> Binned:
    """At most `most` cells in a row, each the mean of as many neighbouring columns."""
    size = max(1, -(-len(heat.columns) // max(1, most)))
    rows = tuple(
        tuple(_mean(row.values[at : at + size]) for at in range(0, len(heat.columns), size)) for row in heat.rows
    )
    return Binned(size, rows)


def level(value: float | None, high: float, count: int) -> int | None:
    """Which of `count` equal steps from 0 to `high` a value lies in; None for what is not finite, or not there."""
    if value is None or not math.isfinite(value):
        return None
    return min(count - 1, int(min(max(value / high, 0.0), 1.0) * count))


def glyph(value: float | None, high: float, *, plain: bool = False) -> str:
    """One value as one character."""
    if value is None:
        return _NOTHING_PLAIN if plain else NOTHING
    signs = DIGITS if plain else BLOCKS
    found = level(value, high, len(signs))
    return UNDEFINED if found is None else signs[found]


def cell_width(cells: int, room: int) -> int:
    """Characters that each cell may take: up to three, where there are few columns and much room."""
    return max(1, min(_WIDEST, room // max(1, cells)))


def axis(heat: Heat, size: int, width: int, room: int) -> str:
    """The names of columns over their cells, as many as do not touch, and fit.

    Args:
        heat: The heat strip.
        size: Columns in each cell.
        width: Characters of a cell.
        room: Characters that there are.
    """
    names = [inert(name) for name in heat.columns[::size]]
    longest = max((len(name) for name in names), default=0) + 1
    step = next((one for one in STEPS if one * width >= longest), len(names) or 1)
    line = ""
    for place in range(0, len(names), step):
        if place * width + len(names[place]) <= room:
            line = line.ljust(place * width) + names[place]
    return line


def legend(heat: Heat, size: int, *, plain: bool = False) -> str:
    """What the characters stand for."""
    signs, nothing = (DIGITS, _NOTHING_PLAIN) if plain else (BLOCKS, NOTHING)
    values = [value for row in heat.rows for value in row.values]
    parts = [f"{signs[0]} 0 to {signs[-1]} {number(heat.high, heat)}"]
    if any(value is None for value in values):
        parts.append(f"{nothing} none")
    if any(value is not None and not math.isfinite(value) for value in values):
        parts.append(f"{UNDEFINED} undefined")
    if size > 1:
        parts.append(f"a cell is the mean of {size} {heat.column_label}s")
    return ", ".join(parts)


def number(value: float | None, heat: Heat) -> str:
    """A value of a heat strip in words."""
    if value is None:
        return "none"
    if not math.isfinite(value):
        return "undefined"
    if not heat.percent:
        return f"{value:.3g}"
    return f"{value * 100:.2g}%" if value < 0.1 else f"{value:.0%}"


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
