"""What a page calls the marks of its charts: the number of the note that says the same."""

from __future__ import annotations

from collections.abc import Iterator

from gradience_analysis.model import Chart, Mark, Note, Notes, Report

Place = tuple[int, int]
"""Section and block of a report, each from 0."""


class Numbers:
    """One number for each remark that the charts of a report mark, in the order of the page.

    A mark belongs to the note whose text is its label, or holds it; of several, to the one closest to the chart. A
    mark without one has a number too, and its label is told beside the chart.
    """

    def __init__(self, report: Report) -> None:
        self._notes: dict[int, int] = {}
        self._marks: dict[tuple[int, str], int] = {}
        notes = [(place, note) for place, block in _blocks(report) if isinstance(block, Notes) for note in block.items]
        meant: dict[tuple[int, str], Note | None] = {}
        for place, block in _blocks(report):
            if isinstance(block, Chart):
                for mark in block.marks:
                    meant[id(block), mark.label] = _closest(notes, place, mark.label)
        for _, note in notes:
            if any(note is one for one in meant.values()):
                self._notes.setdefault(id(note), len(self._notes) + 1)
        alone: dict[str, int] = {}
        for (chart, label), found in meant.items():
            if found is not None:
                self._marks[chart, label] = self._notes[id(found)]
            else:
                self._marks[chart, label] = alone.setdefault(label, len(self._notes) + len(alone) + 1)

    def of_note(self, note: Note) -> int | None:
        """The number of a note; None when no chart marks what it says."""
        return self._notes.get(id(note))

    def of_mark(self, chart: Chart, mark: Mark) -> int:
        """The number of a mark."""
        return self._marks[id(chart), mark.label]

    def has_note(self, number: int) -> bool:
        """Whether a note of the page carries this number."""
        return number <= len(self._notes)


def _blocks(report: Report) -> Iterator[tuple[Place, object]]:
    for section, one in enumerate(report.sections):
        for block, item in enumerate(one.blocks):
            yield (section, block), item


def _closest(notes: list[tuple[Place, Note]], place: Place, label: str) -> Note | None:
    said = [item for item in notes if item[1].text == label] or [
        item for item in notes if label and label in item[1].text
    ]
    if not said:
        return None
    return min(said, key=lambda item: (abs(item[0][0] - place[0]), abs(item[0][1] - place[1])))[1]
