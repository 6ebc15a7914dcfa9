"""Training logs of other tools where telemetry is read: recognised by their content, read through their importer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from gradience_analysis.importers import Importer, find_importer
from gradience_analysis.model import Event, Issue
from gradience_analysis.sources.opening import STDIN, open_regular, shown_name
from gradience_analysis.telemetry.issues import IssueLog
from gradience_schema import SCHEMA_ID, Severity

_HEAD_BYTES = 1 << 14
# Any version of the format: a newer one has its own message.
_OURS = re.compile(rb'"schema"\s*:\s*"' + re.escape(SCHEMA_ID.rpartition("/")[0].encode()))
Reader = TypeVar("Reader")


class ForeignReader:
    """Iterates over the events that an importer makes of a file; the faults go to `issues`.

    The rules across lines are those of telemetry/v1 files; an importer keeps them, and a log of another tool
    has no place to break them.

    Attributes:
        path: The file.
        name: The file as issues name it.
        importer: What reads it.
        issues: Where the faults are recorded.
        lines: The highest line or row that gave an event or issue so far.
        size: Bytes in the file, as it is stored.
        events: Events given so far.
        rejected: Issues of severity error so far, each of which cost a row.
    """

    def __init__(self, path: str | Path, issues: IssueLog, importer: Importer) -> None:
        self.path = Path(path)
        self.name = shown_name(path)
        self.importer = importer
        self.issues = issues
        self.lines = 0
        self.size = 0
        self.events = 0
        self.rejected = 0

    def __iter__(self) -> Iterator[Event]:
        """Events in file order.

        Raises:
            InputError: The file cannot be read, or holds nothing of the format after all.
        """
        self.size = self.path.stat().st_size
        for item in self.importer.read(self.path):
            self.lines = max(self.lines, item.line or 0)
            if isinstance(item, Issue):
                self.rejected += item.severity is Severity.ERROR
                self.issues.add(item)
            else:
                self.events += 1
                yield item


def reader_of(
    path: str | Path, issues: IssueLog, ours: Callable[[str | Path, IssueLog], Reader]
) -> Reader | ForeignReader:
    """The reader for a file: the one for telemetry/v1, unless the file is a log of another tool.

    Args:
        path: A file, or `-` for standard input, which is always read as telemetry/v1.
        issues: Where faults are recorded.
        ours: Makes the reader for telemetry/v1.

    Raises:
        InputError: The path cannot be opened.
    """
    importer = foreign_format(path, issues)
    return ours(path, issues) if importer is None else ForeignReader(path, issues, importer)


def foreign_format(path: str | Path, issues: IssueLog | None = None) -> Importer | None:
    """The importer for a log of another tool; None for telemetry/v1 and for what nobody recognises.

    Raises:
        InputError: The path cannot be opened.
    """
    if str(path) == STDIN:
        return None
    with open_regular(Path(path)) as file:
        head = file.read(_HEAD_BYTES)
    if _OURS.search(head):
        return None
    return find_importer(path) if issues is None else find_importer(path, report=issues.add)


def layout_issue(reader: ForeignReader) -> Issue:
    """That a file is a log of another tool, and how to make telemetry of it: an error, where telemetry is asked for."""
    message = (
        f"is {reader.importer.title}, not telemetry/v1: `gradience import {reader.name} --out run.jsonl` converts it."
    )
    return Issue("foreign_layout", Severity.ERROR, message, reader.name)
