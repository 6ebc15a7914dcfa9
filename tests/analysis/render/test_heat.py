"""Heat strips: levels and bins by hand, the same numbers in each format, and nothing that breaks its tree."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gradience_analysis.model import Heat, HeatRow
from gradience_analysis.render.heatstrip import BLOCKS, axis, binned, cell_width, glyph, legend, level, number
from gradience_analysis.render.html import render_html
from gradience_analysis.render.markdown import render_markdown
from gradience_analysis.render.page.heat import MOST_COLUMNS, SHADES
from tests.analysis.render.blocks import of
from tests.analysis.render.dom import parse

VALUES = st.one_of(st.none(), st.floats(), st.floats(0, 1))


def strip(*rows: tuple[float | None, ...], high: float = 1.0, percent: bool = False) -> Heat:
    """A heat strip of these rows, named a, b, c."""
    named = tuple(HeatRow("abc"[place], values, f"s{place}") for place, values in enumerate(rows))
    columns = tuple(map(str, range(len(rows[0]))))
    return Heat("Use", "share", columns, named, high, beside_label="mean", percent=percent)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, 0), (0.124, 0), (0.125, 1), (0.5, 4), (0.999, 7), (1.0, 7), (7.0, 7), (-1.0, 0), (1e308, 7)],
)
def test_levels_are_equal_steps(value: float, expected: int) -> None:
    """Given values on a scale of 0 to 1, when put into eight steps, then each is where an eighth of it says."""
    assert level(value, 1.0, 8) == expected


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_has_no_level(value: float | None) -> None:
    """Given nothing, or a value that is not finite, when drawn, then it has a sign of its own."""
    assert level(value, 1.0, 8) is None
    assert glyph(value, 1.0) == ("·" if value is None else "!")
    assert glyph(value, 1.0, plain=True) == ("." if value is None else "!")


def test_many_columns_share_cells() -> None:
    """Given seven columns and room for three, when binned, then each cell is the mean of what there is of three."""
    heat = strip((1.0, 2.0, 3.0, None, None, None, 5.0), (None, 1.0, math.nan, 2.0, 4.0, None, None))
    bins = binned(heat, 3)
    assert (bins.size, bins.cells) == (3, 3)
    assert bins.rows[0] == (2.0, None, 5.0)
    assert math.isnan(bins.rows[1][0] or 0.0)
    assert bins.rows[1][1:] == (3.0, None)
    assert "a cell is the mean of 3 layers" in legend(heat, bins.size)


def test_few_columns_stay_as_they_are() -> None:
    """Given fewer columns than there is room for, when binned, then nothing is averaged."""
    heat = strip((0.25, 0.5))
    assert binned(heat, 80).rows == ((0.25, 0.5),)
    assert cell_width(2, 80) == 3
    assert legend(heat, 1) == "▁ 0 to █ 1"


def test_names_of_columns_stand_over_their_cells() -> None:
    """Given forty columns of one character, when named, then each name begins over its own cell, none touching."""
    heat = strip(tuple(float(n) for n in range(40)))
    line = axis(heat, 1, 1, 40)
    assert line.startswith("0   4   8   12")
    assert line == "".join(str(n).ljust(4) for n in range(0, 40, 4)).rstrip()
    assert axis(heat, 1, 1, 13) == "0   4   8"
    assert axis(heat, 2, 3, 60).split() == [str(n) for n in range(0, 40, 2)]


@pytest.mark.parametrize(("value", "words"), [(0.0042, "0.42%"), (0.042, "4.2%"), (0.42, "42%"), (1.0, "100%")])
def test_shares_are_written_as_percentages(value: float, words: str) -> None:
    """Given shares, when written, then small ones keep two digits."""
    assert number(value, strip((value,), percent=True)) == words


def test_page_tells_every_cell_by_name_and_number() -> None:
    """Given a heat strip, when made a page, then each cell has its title, its shade, and its row a label."""
    root = parse(render_html(of(strip((0.0, 0.5, 1.0), (None, math.nan, 0.25)))))
    cells = [node for node in root.all("rect") if node.children]
    assert [node.one("title").text for node in cells] == [
        *("a, layer 0: 0", "a, layer 1: 0.5", "a, layer 2: 1"),
        *("b, layer 0: none", "b, layer 1: undefined", "b, layer 2: 0.25"),
    ]
    assert [node.attributes["class"] for node in cells] == ["h0", "h5", "h10", "none", "undefined", "h2"]
    labels = [node.attributes.get("aria-label") for node in root.all("svg")]
    assert "a: 0 to 1 over 3 layers, mean s0" in labels
    assert "b: 0.25 to 0.25 over 1 layers, mean s1" in labels


def test_every_shade_has_a_colour_in_light_and_dark() -> None:
    """Given the page's style sheet, when read, then each shade is defined twice and used once."""
    (style,) = parse(render_html(of())).all("style")
    for shade in range(SHADES):
        assert style.text.count(f"--h{shade}: #") == 2
        assert f".h{shade} {{ fill: var(--h{shade}); }}" in style.text


def test_page_draws_no_more_columns_than_it_can_show() -> None:
    """Given a thousand layers, when made a page, then neighbours share a cell, and the caption says so."""
    page = render_html(of(strip(tuple(n / 1000 for n in range(1000)))))
    cells = [node for node in parse(page).all("rect") if node.children]
    assert len(cells) <= MOST_COLUMNS
    assert "a cell is the mean of 4 layers" in page


def test_comment_has_a_row_with_both_ends() -> None:
    """Given a heat strip, when made Markdown, then it is a table whose rows have blocks, least, most and the aside."""
    text = render_markdown(of(strip((0.0, 0.5, 1.0), (None, math.nan, 0.25))))
    assert "| a | ▁▅█ | 0 | 1 | s0 |" in text
    assert "| b | ·!▃ | 0.25 | 0.25 | s1 |" in text
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    assert sum(token.type == "tr_open" for token in tokens) == 3


@given(st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=1, max_size=3), st.floats(1e-300, 1e300))
def test_any_values_can_be_shown(rows: list[list[float | None]], high: float) -> None:
    """Given any values and scale, when shown, then a row of blocks has one sign a column, and the page is a tree."""
    heat = strip(*map(tuple, rows), high=high)
    text = render_markdown(of(heat))
    for row in heat.rows:
        drawn = "".join(glyph(value, high) for value in row.values)
        assert set(drawn) <= {*BLOCKS, "·", "!"}
        assert drawn in text
    assert len([node for node in parse(render_html(of(heat))).all("rect") if node.children]) == 3 * len(rows)


def test_nothing_is_shown_of_nothing() -> None:
    """Given a heat strip without rows or columns, when rendered, then it takes no room."""
    for heat in (Heat("t", "u", (), (HeatRow("a", ()),), 1.0), Heat("t", "u", ("0",), (), 1.0)):
        assert "<svg" not in render_html(of(heat))
        assert "|" not in render_markdown(of(heat))
