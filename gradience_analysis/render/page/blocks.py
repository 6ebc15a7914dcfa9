"""The blocks of a report as elements of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.model import Block, Cell, Chart, Curve, Fields, Heat, Mark, Note, Notes, Table
from gradience_analysis.render.page.chart import charts, spark, tone
from gradience_analysis.render.page.heat import heat
from gradience_analysis.render.page.markup import Markup, element, group, lines
from gradience_analysis.render.page.numbers import Numbers
from gradience_schema import Severity

WORDS: Mapping[Severity, str] = {
    Severity.INFO: "Note",
    Severity.WARNING: "Warning",
    Severity.ERROR: "Error",
    Severity.CRITICAL: "Critical",
}

_MANY = 5
_MANY_FIELDS = 10


def blocks(items: Sequence[Block], numbers: Numbers, links: Mapping[str, str], name: str) -> Markup:
    """The blocks of one section.

    Args:
        items: The blocks, in order; charts that follow each other share a grid and the list of their marks.
        numbers: What the marks are called.
        links: Fragment of each section that a table may name.
        name: Prefix of the ids of its parts.
    """
    made: list[Markup] = []
    waiting: list[Chart] = []
    for place, block in enumerate((*items, None)):
        if isinstance(block, Chart):
            waiting += [block] if block.curves else []
            continue
        if waiting:
            made.append(_charts(waiting, numbers, f"{name}-{place}"))
            waiting = []
        if block is not None:
            made.append(_block(block, numbers, links))
    return lines(made)


def _block(block: Block, numbers: Numbers, links: Mapping[str, str]) -> Markup:
    if isinstance(block, Fields):
        return _fields(block)
    if isinstance(block, Table):
        return _table(block, links)
    if isinstance(block, Notes):
        return element("ul", lines(["", *(_note(note, numbers) for note in block.items), ""]), class_="notes")
    if isinstance(block, Heat):
        return heat(block)
    if isinstance(block, Curve):
        return element("p", block.label, " ", spark(block), class_="curve")
    return group()


def _fields(block: Fields) -> Markup:
    items = [element("div", element("dt", item.label), element("dd", item.value)) for item in block.items]
    # A list such as a configuration takes several columns where there is room.
    return element("dl", lines(["", *items, ""]), class_="fields many" if len(items) > _MANY_FIELDS else "fields")


def _table(block: Table, links: Mapping[str, str]) -> Markup:
    right = [title in block.right for title in block.columns]
    curves = any(isinstance(cell, Curve) for row in block.rows for cell in row)
    # Where there is little room, the rows of a table of many words stand below each other, each cell with its title.
    labels = block.columns if len(right) >= _MANY and not curves else ()
    head = [
        element("th", title, scope="col", class_="n" if end else None) if title else element("td")
        for title, end in zip(block.columns, right, strict=True)
    ]
    rows = [_row(row, right, labels, links) for row in block.rows]
    whole = element(
        "table",
        element("thead", element("tr", *head)),
        element("tbody", lines(["", *rows, ""])),
        class_="wide" if labels else None,
    )
    # A table with more than there is room for scrolls in its own box, which the keyboard must be able to reach.
    return element("div", whole, class_="scroll", tabindex=0, role="region", aria_label="table")


def _row(row: Sequence[Cell], right: Sequence[bool], labels: Sequence[str], links: Mapping[str, str]) -> Markup:
    cells: list[Markup] = []
    for place, (cell, end) in enumerate(zip(row, right, strict=True)):
        if isinstance(cell, Curve):
            cells.append(element("td", spark(cell), class_="curve"))
        elif place == 0 and cell:
            target = links.get(cell)
            inside = cell if target is None else element("a", cell, href=f"#{target}")
            cells.append(element("th", inside, scope="row"))
        else:
            label = labels[place] if labels else None
            cells.append(element("td", cell, class_="n" if end else None, data_label=label))
    return element("tr", *cells)


def _note(note: Note, numbers: Numbers) -> Markup:
    number = numbers.of_note(note)
    label = element("span", WORDS[note.severity], class_="word")
    badge = None if number is None else element("span", str(number), class_="badge", title="its number in the charts")
    details = [element("p", line) for line in note.details]
    said = element("div", element("p", note.text, class_="said"), *details)
    return element(
        "li", element("span", label, badge, class_="lead"), said, class_=tone(note.severity),
        id=None if number is None else f"note-{number}",
    )  # fmt: skip


def _charts(group_of: Sequence[Chart], numbers: Numbers, name: str) -> Markup:
    return lines([charts(group_of, numbers.of_mark, name), _marked(group_of, numbers)])


def _marked(group_of: Sequence[Chart], numbers: Numbers) -> Markup:
    """Which number stands for what, and at which places."""
    found: dict[int, list[Mark]] = {}
    for block in group_of:
        for mark in block.marks:
            known = found.setdefault(numbers.of_mark(block, mark), [])
            if all(mark.x != other.x for other in known):
                known.append(mark)
    if not found:
        return group()
    items: list[Markup] = []
    for number, marks in sorted(found.items()):
        places = ", ".join(f"{mark.x:,.0f}" for mark in sorted(marks, key=lambda mark: mark.x))
        badge = element("span", str(number), class_=f"badge {tone(marks[0].severity)}")
        where = f" {group_of[0].x_label} {places}"
        if numbers.has_note(number):
            items.append(element("li", element("a", badge, where, href=f"#note-{number}", title=marks[0].label)))
        else:
            items.append(element("li", badge, f"{where}: {marks[0].label}"))
    return element("ul", *items, class_="marked", aria_label="marks in the charts")
