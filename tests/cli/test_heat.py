"""Heat strips in a terminal: every width, with and without colour, in ASCII."""

from __future__ import annotations

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gradience_analysis.model import Heat, HeatRow
from gradience_analysis.render.inert import inert
from gradience_cli.heat import heat_lines
from gradience_cli.terminal import MIN_WIDTH, render_text
from tests.analysis.render.blocks import of


def strip(layers: int, *, name: str = "self_attn.q_proj") -> Heat:
    """Two rows that rise and fall over so many layers."""
    rising = tuple(layer / max(1, layers - 1) for layer in range(layers))
    rows = (HeatRow(name, rising, "50%"), HeatRow("mlp.up_proj", tuple(reversed(rising)), "51%"))
    return Heat("Utilization", "stable rank / r", tuple(map(str, range(layers))), rows, 1.0, beside_label="mean")


def plain(heat: Heat, width: int, *, ascii_only: bool = False) -> list[str]:
    """The lines without their styles."""
    return [line.plain for line in heat_lines(heat, width, inert, plain=ascii_only)]


def test_one_layer_is_one_block() -> None:
    """Given eight layers and a narrow screen, when drawn, then a row is its eight heights, with its mean beside."""
    lines = plain(strip(8), 36)
    assert lines[0] == "  Utilization: stable rank / r"
    assert lines[2] == "  self_attn.q_proj  ▁▂▃▄▅▆▇█   50%"
    assert lines[3] == "  mlp.up_proj       █▇▆▅▄▃▂▁   51%"
    assert lines[4] == "    ▁ 0 to █ 1"


def test_ascii_shows_digits() -> None:
    """Given a terminal of ASCII only, when drawn, then tenths of the scale stand as digits, apart from each other."""
    lines = plain(strip(8), 60, ascii_only=True)
    assert lines[2].split()[1:] == ["0", "1", "2", "4", "5", "7", "8", "9", "50%"]
    assert lines[4].strip() == "0 0 to 9 1"
    assert "".join(lines).isascii()


def test_layers_share_cells_where_there_are_too_many() -> None:
    """Given eighty layers on eighty columns, when drawn, then two share a cell, and the legend says so."""
    lines = plain(strip(80), 80)
    assert "a cell is the mean of 2 layers" in lines[-1]
    assert lines[2].count("█") >= 1
    assert lines[1].split()[:3] == ["layer", "0", "8"]


def test_names_stand_alone_where_there_is_no_room_beside_them() -> None:
    """Given a name longer than half the screen, when drawn, then it has a line of its own, and the strip another."""
    lines = plain(strip(40, name="block.attention.projection.of.query"), 50)
    assert "  block.attention.projection.of.query · mean 50%" in lines
    assert max(map(cell_len, lines)) <= 50


@pytest.mark.parametrize("width", [MIN_WIDTH, 40, 60, 80, 120, 200])
@pytest.mark.parametrize("layers", [1, 2, 6, 32, 80, 400])
@pytest.mark.parametrize("ascii_only", [False, True], ids=["blocks", "ascii"])
def test_no_line_is_wider_than_the_screen(width: int, layers: int, ascii_only: bool) -> None:
    """Given any width and number of layers, when drawn, then every line fits, and none ends in a blank."""
    for line in plain(strip(layers), width, ascii_only=ascii_only):
        assert cell_len(line) <= width
        assert line == line.rstrip()


def test_colour_follows_the_level_and_says_nothing_more() -> None:
    """Given a rising row, when drawn, then its colours change with its heights, and no line needs them."""
    row = heat_lines(strip(8), 36, inert, plain=False)[2]
    styles = [str(span.style) for span in row.spans]
    assert len(dict.fromkeys(styles)) == 4
    assert not any("bold" in style or "on " in style for style in styles)


def test_what_is_missing_or_undefined_has_a_sign_and_a_word() -> None:
    """Given a layer without the module and one without a value, when drawn, then both are told apart."""
    heat = Heat("t", "u", ("0", "1", "2"), (HeatRow("a", (None, math.nan, 1.0)),), 1.0)
    lines = plain(heat, 80)
    assert lines[2].split()[1:] == ["··", "!!", "██"]
    assert lines[-1].strip() == "▁ 0 to █ 1, · none, ! undefined"


@given(st.text(max_size=40), st.text(max_size=10), st.integers(MIN_WIDTH, 120), st.booleans())
def test_any_name_fits(name: str, beside: str, width: int, ascii_only: bool) -> None:
    """Given any text as name and aside, when the report is rendered, then every line fits and is printable."""
    heat = Heat(name, name, ("0", "1"), (HeatRow(name, (0.5, 1.0), beside),), 1.0, name, beside)
    for line in render_text(of(heat), width=width, ascii_only=ascii_only).split("\n"):
        assert cell_len(line) <= width
        assert not {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} & set(map(unicodedata.category, line))
        assert line.isascii() or not ascii_only
