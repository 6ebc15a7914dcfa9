"""Which sections of a report begin a part of it, as each run does in a report on several."""

from __future__ import annotations

from gradience_analysis.model import Report, Table


def parts(report: Report) -> frozenset[int]:
    """Places of the sections that the first column of a table names; the sections up to the next one belong to it."""
    named = {
        row[0]
        for section in report.sections
        for block in section.blocks
        if isinstance(block, Table)
        for row in block.rows
        if row and isinstance(row[0], str)
    }
    return frozenset(place for place, one in enumerate(report.sections) if one.title and one.title in named)


def below_a_part(place: int, begins: frozenset[int]) -> bool:
    """Whether a section belongs to a part that another one began."""
    return bool(begins) and place > min(begins) and place not in begins
