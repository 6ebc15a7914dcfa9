"""A report as GitHub-flavoured Markdown, for a comment on a pull request or the summary of a job."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from gradience_analysis.model import Block, Cell, Curve, Field, Fields, Heat, Note, Notes, Report, Section, Table
from gradience_analysis.render.heatstrip import binned, glyph, legend, number
from gradience_analysis.render.inert import inert
from gradience_analysis.render.parts import below_a_part, parts
from gradience_analysis.render.sparkline import sparkline
from gradience_schema import Severity

MARKER = "<!-- gradience {kind} -->"
"""The first line: by it a bot finds its comment again, and `gradience report` a file of its own."""
MAX_CHARACTERS = 60_000
"""GitHub takes 65,536 in a comment."""
_MAX_TEXT = 1_000
_SPARK = 24
_HEAT = 40
_WORDS: Mapping[Severity, str] = {
    Severity.INFO: "Note",
    Severity.WARNING: "Warning",
    Severity.ERROR: "Error",
    Severity.CRITICAL: "Critical",
}
# Parts what a site would make a link of, unseen: a text has none of its own left, and the file gets it by its number.
_APART = "\u200b"
# Signs of Markdown inside a line, of its tables and mathematics, and of HTML: shown as themselves.
_SIGNS = {
    **{sign: f"\\{sign}" for sign in "\\`*_[]~^{}"},
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "|": "&#124;",
    "$": "<span>$</span>",
    _APART: "&#8203;",
}
_ESCAPES = str.maketrans(_SIGNS)
# What a site makes links of after Markdown is done: @name, #12, GH-12, a://b, mailto:, www., and :emoji:.
_LINKS = re.compile(
    r"@(?=\S)|#(?=\d)|(?<=GH)-(?=\d)|:(?=//|[\w+-]+:)|(?<=www)\.|(?<=mailto):|(?<=xmpp):", re.IGNORECASE
)
# At the start of a line: a heading, a list, a rule, a number of a list.
_OPENING = re.compile(r"^(?:[#+\-=:]|\d+(?=[.)](?:\s|$)))")


def render_markdown(report: Report) -> str:
    """The verdict as a heading, then each section; charts are left out, curves in tables are a row of blocks.

    What would make it longer than a comment may be is left out from the end, and the text says so.
    """
    lead = f"`gradience {report.kind}` · {_text(report.title)}"
    pieces = [
        MARKER.format(kind=report.kind),
        f"### {_verdict(report.verdict)}\n",
        f"{lead}\n",
        *(f"{_line(detail)}\n" for detail in report.verdict.details),
    ]
    room = MAX_CHARACTERS - sum(map(len, pieces))
    begins = parts(report)
    written = (
        _section(section, "#####" if below_a_part(place, begins) else "####")
        for place, section in enumerate(report.sections)
    )
    sections = [piece for piece in written if piece]
    for place, piece in enumerate(sections):
        room -= len(piece) + 1
        if room < 0:
            pieces.append(
                f"_{len(sections) - place} of {len(sections)} sections are left out: too long for a comment._\n"
            )
            break
        pieces.append(piece)
    return "\n".join(pieces)


def _verdict(note: Note) -> str:
    word = "OK" if note.severity is Severity.INFO else _WORDS[note.severity]
    return f"{word}: {_text(note.text)}"


def _section(section: Section, level: str) -> str:
    inside = [text for block in section.blocks if (text := "\n".join(_block(block)))]
    if not inside:
        return ""
    heading = f"{level} {_text(section.title)}\n\n" if section.title else ""
    return heading + "\n\n".join(inside) + "\n"


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Fields):
        # A backslash at its end breaks a line; no list, which would run into one that follows.
        yield "\\\n".join(_field(field) for field in block.items)
    elif isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, Notes):
        for note in block.items:
            yield f"- **{_WORDS[note.severity]}** {_text(note.text)}"
            for detail in note.details:
                yield f"  - {_line(detail)}"
    elif isinstance(block, Heat):
        yield from _heat(block)
    elif isinstance(block, Curve):
        yield f"{_line(block.label)} {_cell(block)}".strip()


def _field(field: Field) -> str:
    label = _text(field.label)
    return f"**{label}** {_text(field.value)}".rstrip() if label else _line(field.value)


def _table(table: Table) -> Iterator[str]:
    if table.columns:
        yield _row([_text(title) for title in table.columns])
        yield _row(["---:" if title in table.right else "---" for title in table.columns])
        for row in table.rows:
            yield _row([_cell(cell) for cell in row])


def _heat(heat: Heat) -> Iterator[str]:
    """A heat strip as a table: each row as blocks, with its least and its largest value."""
    if not heat.rows or not heat.columns:
        return
    bins = binned(heat, _HEAT)
    yield f"**{_text(heat.title)}** {_text(heat.unit)} · {_text(legend(heat, bins.size))}"
    yield ""
    first, last = heat.columns[0], heat.columns[-1]
    span = f"{heat.column_label} {first}" if first == last else f"{heat.column_label}s {first} to {last}"
    yield _row(["", _text(span), "least", "most", _text(heat.beside_label)])
    yield _row(["---", "---", "---:", "---:", "---:"])
    for row, cells in zip(heat.rows, bins.rows, strict=True):
        drawn = "".join(glyph(value, heat.high) for value in cells)
        finite = [value for value in row.values if value is not None and math.isfinite(value)]
        ends = [number(value, heat) for value in (min(finite), max(finite))] if finite else ["", ""]
        yield _row([_text(row.name), drawn, *map(_text, ends), _text(row.beside)])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    return sparkline(cell.points, _SPARK) if isinstance(cell, Curve) else _text(cell)


def _text(text: str) -> str:
    """Text in which nothing is Markdown, HTML, a link or a mention to who shows it; never more than a line."""
    safe = inert(text[: _MAX_TEXT + 1]).strip()
    clipped = safe if len(safe) <= _MAX_TEXT else f"{safe[:_MAX_TEXT]}…"
    parted = _LINKS.sub(_parted, clipped)
    return parted.translate(_ESCAPES)


def _line(text: str) -> str:
    """The same where a line begins, and a heading or a list could."""
    return _OPENING.sub(lambda found: found[0] + "\\" if found[0].isdigit() else f"\\{found[0]}", _text(text))


def _parted(found: re.Match[str]) -> str:
    sign = found[0]
    return f"{_APART}{sign}" if sign in ".-" else f"{sign}{_APART}"
