"""A heat strip as inline SVG: a picture a row that fills the room it has, the number of each cell as its title.

The shade of a cell is one of eleven classes of the style sheet, so that it is right in the dark and on paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from gradience_analysis.model import Heat
from gradience_analysis.model.report import HeatRow
from gradience_analysis.render.heatstrip import STEPS, binned, level, number
from gradience_analysis.render.page.markup import Markup, element, group, lines

SHADES = 11
"""Shades that the style sheet knows, h0 the lowest."""
MOST_COLUMNS = 256
"""Columns that a page draws; of more, several share a cell."""
_FEW_NAMES = 12
_UNIT = 10


def heat(block: Heat) -> Markup:
    """The heat strip with its title, its scale, and the names of rows and columns."""
    if not block.rows or not block.columns:
        return group()
    bins = binned(block, MOST_COLUMNS)
    unit = block.unit if bins.size == 1 else f"{block.unit}, a cell is the mean of {bins.size} {block.column_label}s"
    block = replace(
        block,
        columns=block.columns[:: bins.size],
        rows=tuple(replace(row, values=cells) for row, cells in zip(block.rows, bins.rows, strict=True)),
    )
    caption = element(
        "figcaption",
        element("strong", block.title),
        element("span", unit, class_="unit"),
        _scale(block),
    )
    head = element(
        "div",
        element("span", block.column_label, class_="name"),
        _axis(block),
        element("span", block.beside_label, class_="beside"),
        class_="heatrow heathead",
        aria_hidden="true",
    )
    rows = [_row(block, row) for row in block.rows]
    return element("figure", caption, element("div", lines(["", head, *rows, ""]), class_="heatrows"), class_="heat")


def _row(block: Heat, row: HeatRow) -> Markup:
    count = len(block.columns)
    picture = element(
        "svg",
        *_cells(block, row),
        viewBox=f"0 0 {count * _UNIT} {_UNIT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=_told(block, row),
    )
    return element(
        "div", element("span", row.name, class_="name"), picture, element("span", row.beside, class_="beside"),
        class_="heatrow",
    )  # fmt: skip


def _cells(block: Heat, row: HeatRow) -> Iterator[Markup]:
    for place, (column, value) in enumerate(zip(block.columns, row.values, strict=True)):
        shade = level(value, block.high, SHADES)
        kind = "none" if value is None else "undefined" if shade is None else f"h{shade}"
        title = element("title", f"{row.name}, {block.column_label} {column}: {number(value, block)}")
        yield element("rect", title, class_=kind, x=place * _UNIT, width=_UNIT, height=_UNIT)


def _told(block: Heat, row: HeatRow) -> str:
    finite = [value for value in row.values if value is not None and math.isfinite(value)]
    if not finite:
        return f"{row.name}: no value"
    ends = f"{number(min(finite), block)} to {number(max(finite), block)}"
    beside = f", {block.beside_label} {row.beside}" if row.beside else ""
    return f"{row.name}: {ends} over {len(finite)} {block.column_label}s{beside}"


def _axis(block: Heat) -> Markup:
    """Names of columns under the middle of their cells, as many as have room on a narrow screen."""
    count = len(block.columns)
    step = next((one for one in STEPS if count / one <= _FEW_NAMES), count)
    names = [
        element("text", name, x=f"{round((place + 0.5) / count * 100, 2):g}%", y="1em")
        for place, name in enumerate(block.columns)
        if place % step == 0
    ]
    return element("svg", *names, class_="heataxis", aria_hidden="true")


def _scale(block: Heat) -> Markup:
    """The shades from 0 to the highest, and the signs for what has none."""
    shades = [
        element("rect", class_=f"h{shade}", x=shade * _UNIT, width=_UNIT, height=_UNIT) for shade in range(SHADES)
    ]
    bar = element("svg", *shades, viewBox=f"0 0 {SHADES * _UNIT} {_UNIT}", preserveAspectRatio="none", class_="ramp",
                  aria_hidden="true")  # fmt: skip
    items = [element("li", "0 ", bar, f" {number(block.high, block)}")]
    values = [value for row in block.rows for value in row.values]
    if any(value is None for value in values):
        items.append(_key("none", "none"))
    if any(value is not None and not math.isfinite(value) for value in values):
        items.append(_key("undefined", "undefined"))
    return element("ul", *items, class_="legend")


def _key(kind: str, word: str) -> Markup:
    rect = element("rect", class_=kind, x=0, width=_UNIT, height=_UNIT)
    return element(
        "li", element("svg", rect, viewBox=f"0 0 {_UNIT} {_UNIT}", class_="swatch", aria_hidden="true"), word
    )
