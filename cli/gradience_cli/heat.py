"""A heat strip as lines of a terminal: a block a cell whose height is the value, the colour only underlining it."""

from __future__ import annotations

from collections.abc import Callable

from rich.cells import cell_len
from rich.text import Text

from gradience_analysis.model import Heat
from gradience_analysis.render.heatstrip import BLOCKS, axis, binned, cell_width, glyph, legend, level
from gradience_cli.wrap import wrap

_INDENT = 2
_GAP = 2
_FEWEST = 12
"""Cells below which the names of rows get lines of their own."""
_NARROW = 2
"""Widest cell that has no blank beside it."""
_STYLES = ("blue", "blue", "cyan", "cyan", "green", "green", "yellow", "yellow")
"""From the theme of the terminal, so that they show on dark and on light."""


def heat_lines(heat: Heat, width: int, safe: Callable[[str], str], *, plain: bool) -> list[Text]:
    """Title, names of columns, a line a row, and what the signs mean.

    Args:
        heat: What to show.
        width: Characters of a line.
        safe: Makes text from files harmless.
        plain: Whether only ASCII can be shown.
    """
    if not heat.rows or not heat.columns:
        return []
    names = [safe(row.name) for row in heat.rows]
    besides = [safe(row.beside) for row in heat.rows]
    head, aside = safe(heat.column_label), safe(heat.beside_label)
    label = max(cell_len(name) for name in (*names, head))
    right = max(cell_len(text) for text in (*besides, aside))
    right += _GAP if right else 0
    room = width - _INDENT - label - _GAP - right
    stacked = room < min(_FEWEST, len(heat.columns))
    if stacked:
        # The word beside a row goes behind its name, which has a line of its own.
        names = [f"{name} · {aside} {beside}" if beside else name for name, beside in zip(names, besides, strict=True)]
        aside, besides, right = "", [""] * len(names), 0
        room = width - 2 * _INDENT
    bins = binned(heat, room)
    cell = cell_width(bins.cells, room)
    start = 2 * _INDENT if stacked else _INDENT + label + _GAP
    end = start + bins.cells * cell + right
    lead = " " * start if stacked else f"{' ' * _INDENT}{head}".ljust(start)
    lines = _words(f"{safe(heat.title)}: {safe(heat.unit)}", width)
    lines.append(_closed(Text(lead + safe(axis(heat, bins.size, cell, bins.cells * cell)), "dim"), aside, end))
    for name, row, beside in zip(names, bins.rows, besides, strict=True):
        if stacked:
            lines += [Text(" " * _INDENT + piece) for piece in wrap(safe(name), width - _INDENT)]
        lead = " " * start if stacked else f"{' ' * _INDENT}{name}{' ' * (label + _GAP - cell_len(name))}"
        line = Text(lead)
        for value in row:
            found = level(value, heat.high, len(BLOCKS))
            style = None if found is None else _STYLES[found]
            line.append(_cell(glyph(value, heat.high, plain=plain), cell, plain=plain), style)
        lines.append(_closed(line, beside, end))
    told = _words(safe(legend(heat, bins.size, plain=plain)), width, 2 * _INDENT)
    return [*lines, *(Text(line.plain, "dim") for line in told)]


def _cell(sign: str, width: int, *, plain: bool) -> str:
    """A value over the characters of its cell: digits and wide cells stand apart, for two would be read as one."""
    return (sign if plain else sign * max(1, width - (width > _NARROW))).ljust(width)


def _closed(line: Text, beside: str, end: int) -> Text:
    """The line with the word beside it, whose last letter stands at `end`."""
    if beside:
        line.append(" " * max(1, end - line.cell_len - cell_len(beside)) + beside)
    line.rstrip()
    return line


def _words(text: str, width: int, indent: int = _INDENT) -> list[Text]:
    return [Text(" " * indent + piece) for piece in wrap(text, width - indent)]
