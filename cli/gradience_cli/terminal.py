"""Report to terminal text: layout by width, colour by weight, ASCII where nothing else can be shown."""

from __future__ import annotations

import os
import sys

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from gradience_analysis.model import Block, Chart, Curve, Field, Fields, Heat, Note, Notes, Report, Section, Table
from gradience_analysis.render.inert import inert, plain_ascii
from gradience_analysis.render.sparkline import sparkline
from gradience_cli.heat import heat_lines
from gradience_cli.wrap import wrap
from gradience_schema import Severity

PIPE_WIDTH = 200
MIN_WIDTH = 30
_STYLES = {
    Severity.INFO: "green",
    Severity.WARNING: "yellow",
    Severity.ERROR: "bold red",
    Severity.CRITICAL: "bold red",
}
_WORDS = {Severity.INFO: "OK", Severity.WARNING: "WARNING", Severity.ERROR: "ERROR", Severity.CRITICAL: "CRITICAL"}
_LABEL = 14
_GAP = 2
_CURVE = (8, 32)
_UNICODE = frozenset({"utf-8", "utf8", "utf-16", "utf-32", "gb18030"})


def print_report(report: Report) -> None:
    """Print to stdout, in the width of the terminal; NO_COLOR, FORCE_COLOR and COLUMNS are honoured."""
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    terminal = sys.stdout.isatty()
    # A pipe has no width: what reads it may cut lines, we do not.
    width = console.width if terminal or os.environ.get("COLUMNS", "").isdigit() else PIPE_WIDTH
    ascii_only = (console.encoding or "ascii").lower() not in _UNICODE
    console.print(layout(report, width=width, ascii_only=ascii_only), soft_wrap=True, no_wrap=True, crop=False)


def render_text(report: Report, *, width: int, ascii_only: bool = False) -> str:
    """The same as plain text without colour."""
    return layout(report, width=width, ascii_only=ascii_only).plain + "\n"


def layout(report: Report, *, width: int, ascii_only: bool = False) -> Text:
    """The report as lines no wider than `width`, as far as words can be broken; the verdict first."""
    page = _Page(max(width, MIN_WIDTH), ascii_only=ascii_only)
    page.verdict(report.verdict)
    for section in report.sections:
        page.section(section)
    return Text("\n").join(page.lines)


class _Page:
    """Lines laid out so far."""

    def __init__(self, width: int, *, ascii_only: bool) -> None:
        self.lines: list[Text] = []
        self._width = width
        self._ascii = ascii_only

    def verdict(self, note: Note) -> None:
        word = _WORDS[note.severity]
        self._hanging(f"{word}  ", note.text, style=_STYLES[note.severity], text_style="bold")

    def section(self, section: Section) -> None:
        self.lines.append(Text())
        if section.title:
            for line in wrap(self._safe(section.title), self._width):
                self.lines.append(Text(line, "bold cyan"))
        for place, block in enumerate(section.blocks):
            if place and isinstance(block, Heat):
                self.lines.append(Text())
            self._block(block)

    def _block(self, block: Block) -> None:
        if isinstance(block, Fields):
            for field in block.items:
                self._field(field)
        elif isinstance(block, Table):
            self._table(block)
        elif isinstance(block, Notes):
            for note in block.items:
                self._note(note)
        elif isinstance(block, Heat):
            self.lines += heat_lines(block, self._width, self._safe, plain=self._ascii)
        elif isinstance(block, Chart):
            return  # the tables' sparklines show these curves here
        else:
            self._hanging("  ", f"{block.label} {self._spark(block, self._width - _LABEL)}")

    def _field(self, field: Field) -> None:
        self._hanging(f"  {field.label:<{_LABEL}}", field.value, style="dim")

    def _note(self, note: Note) -> None:
        marker = {Severity.INFO: "i", Severity.WARNING: "!", Severity.ERROR: "x", Severity.CRITICAL: "x"}[note.severity]
        style = "cyan" if note.severity is Severity.INFO else _STYLES[note.severity]
        self._hanging(f"  {marker} ", note.text, style=style)
        for detail in note.details:
            self._hanging("      ", detail, text_style="dim")

    def _hanging(self, lead: str, text: str, *, style: str = "", text_style: str = "") -> None:
        """A lead, and the text beside it; further lines are indented to the text."""
        lead = self._safe(lead)
        indent = cell_len(lead)
        # A long label on a narrow screen must leave room for its value.
        if indent > self._width // 2:
            self.lines += [Text(f"  {piece}", style) for piece in wrap(lead.strip(), self._width - 2)]
            lead, indent = "    ", 4
        pieces = wrap(self._safe(text), self._width - indent)
        for place, piece in enumerate(pieces):
            # A style of the whole line would colour the text beside the lead, but not its further lines.
            line = Text().append(lead if place == 0 else " " * indent, style if place == 0 else None)
            line.append(piece, text_style or None)
            line.rstrip()
            self.lines.append(line)

    def _table(self, table: Table) -> None:
        texts = [[cell if isinstance(cell, Curve) else self._safe(cell) for cell in row] for row in table.rows]
        titles = [self._safe(title) for title in table.columns]
        widths = [
            max(cell_len(title), *(cell_len(cell) for row in texts if isinstance(cell := row[place], str)), 0)
            for place, title in enumerate(titles)
        ]
        curve_places = {place for row in table.rows for place, cell in enumerate(row) if isinstance(cell, Curve)}
        fixed = sum(w for place, w in enumerate(widths) if place not in curve_places) + _GAP * len(widths)
        if fixed > self._width:
            self._stacked(table, titles, texts)
            return
        room = min(_CURVE[1], (self._width - fixed) // max(1, len(curve_places)))
        shown = [place for place in range(len(titles)) if place not in curve_places or room >= _CURVE[0]]
        self._row([titles[place] for place in shown], [widths[place] for place in shown], table, shown, "dim")
        for row in texts:
            cells = [cell if isinstance(cell, str) else self._spark(cell, room) for cell in (row[p] for p in shown)]
            self._row(cells, [widths[place] for place in shown], table, shown, "")

    def _row(self, cells: list[str], widths: list[int], table: Table, shown: list[int], style: str) -> None:
        line = Text("", style)
        for cell, width, place in zip(cells, widths, shown, strict=True):
            blank = " " * (width - cell_len(cell))
            line.append(" " * _GAP)
            line.append(blank + cell if table.columns[place] in table.right else cell + blank)
        line.rstrip()
        self.lines.append(line)

    def _stacked(self, table: Table, titles: list[str], texts: list[list[str | Curve]]) -> None:
        """A table too wide for the screen: each row as a heading with its cells under it."""
        del table
        for row in texts:
            words = [
                f"{title} {cell}".strip()
                for title, cell in zip(titles[1:], row[1:], strict=True)
                if isinstance(cell, str) and cell
            ]
            head = row[0] if isinstance(row[0], str) else ""
            self._hanging(f"  {head} " if head else "  ", ", ".join(words))

    def _spark(self, curve: Curve, width: int) -> str:
        return sparkline(curve.points, width, plain=self._ascii)

    def _safe(self, text: str) -> str:
        safe = inert(text)
        return plain_ascii(safe) if self._ascii else safe
