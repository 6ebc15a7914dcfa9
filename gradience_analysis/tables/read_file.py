"""Telemetry files into tables, each in one pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gradience_analysis.errors import InputError, NoTelemetryError
from gradience_analysis.model import Event, Issue
from gradience_analysis.sources.lines import Line
from gradience_analysis.tables.bundle import Tables
from gradience_analysis.tables.layout import SCHEMAS
from gradience_analysis.tables.long import Records, table_of
from gradience_analysis.tables.parts import Parts
from gradience_analysis.tables.steps import StepRows
from gradience_analysis.telemetry.batches import BatchReader, Rows
from gradience_analysis.telemetry.cross_line import CROSS_LINE_CODES, CrossLineCheck
from gradience_analysis.telemetry.foreign import ForeignReader, reader_of
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.rowshape import RowShape
from gradience_schema import Severity

TELEMETRY = "telemetry/v1"
"""What the column `format` of the table `files` says of our own files; of others, the name of their importer."""


INT64_MAX = (1 << 63) - 1


def read_file(path: str | Path, *, bad_lines: bool = False, max_issues: int = 100) -> Tables:
    """Read one file to its end.

    Args:
        path: A telemetry file or a log of another tool, gzip or not; the tables name it as it is given here.
        bad_lines: Keep the bytes of every refused line (of a log of another tool there are only the issues).
        max_issues: Issues kept per code; all are counted.

    Raises:
        InputError: The path cannot be read at all.
    """
    builder = TableBuilder(bad_lines=bad_lines, max_issues=max_issues)
    builder.add(path)
    return builder.tables()


def _with_small_step(event: Event, log: IssueLog, path: str) -> Event:
    """The event, without a step that no column of 64-bit integers can hold; that is said."""
    if event.step is None or event.step <= INT64_MAX:
        return event
    message = f"step {str(event.step)[:20]}… is beyond 64 bits: tables have none in its place."
    log.add(Issue("step_too_large", Severity.WARNING, message, path, event.line, event.byte_offset, "/step"))
    return event._replace(step=None)


class TableBuilder:
    """Reads files one after the other into the same tables; many small files cost hardly more than one large one.

    Args:
        bad_lines: As for `read_file`.
        max_issues: As for `read_file`; for each file.
    """

    def __init__(self, *, bad_lines: bool = False, max_issues: int = 100) -> None:
        self._bad_lines = bad_lines
        self._max_issues = max_issues
        self._steps = StepRows()
        self._records = Records()
        self._rows: dict[str, list[tuple[Any, ...]]] = {
            name: [] for name in ("parts", "issues", "issue_counts", "bad_lines", "files")
        }
        self._shape: RowShape | None = None

    def add(self, path: str | Path, *, needs_events: bool = False) -> None:
        """Read a file to its end.

        Args:
            path: As for `read_file`.
            needs_events: Refuse a file without a single valid event.

        Raises:
            InputError: The path cannot be read at all; nothing of it was added. A file that can be read up to a
                place is kept up to there, with the issue `read_error`.
            NoTelemetryError: As `needs_events` says; nothing of it was added.
        """
        # A name of other bytes than UTF-8 shows them as escapes; Arrow could not hold it.
        name = str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        log = IssueLog(keep_per_code=self._max_issues)
        refused: list[Line] = []
        keep = refused.append if self._bad_lines else None
        reader = reader_of(path, log, lambda path, log: BatchReader(path, log, keep, expected=self._shape))
        check = CrossLineCheck(path, log, CROSS_LINE_CODES if isinstance(reader, ForeignReader) else ())
        parts = Parts()
        try:
            self._read(reader, check, parts, log, name)
        except InputError as error:
            if not reader.events:
                raise
            log.add(Issue("read_error", Severity.ERROR, error.message.removeprefix(f"{error.path}: "), name))
        if needs_events and not reader.events:
            remedy = "`gradience validate` lists what is wrong."
            raise NoTelemetryError(name, f"holds no valid telemetry/v1 event{log.first_error()}", remedy)
        layout = reader.importer.name if isinstance(reader, ForeignReader) else TELEMETRY
        self._shape = reader.usual_shape if isinstance(reader, BatchReader) else self._shape
        rows = self._rows
        rows["parts"] += parts.rows(name)
        rows["issues"] += [tuple(issue.to_dict()[column] for column in SCHEMAS["issues"].names) for issue in log.kept]
        rows["issue_counts"] += [(name, item.code, str(item.severity), item.count) for item in log.counts]
        rows["bad_lines"] += [(name, line.number, line.offset, line.size, line.data) for line in refused]
        counts = (reader.lines, reader.size, reader.events, reader.rejected, check.missing)
        rows["files"].append((name, layout, *counts))

    def _read(
        self,
        reader: BatchReader | ForeignReader,
        check: CrossLineCheck,
        parts: Parts,
        log: IssueLog,
        path: str,
    ) -> None:
        steps, records = self._steps, self._records
        for batch in reader:
            if not isinstance(batch, Rows):
                check.observe(batch, reader.rejected)
                event = _with_small_step(batch, log, path)
                part = parts.place(event)
                if event.event == "train_step":
                    steps.add_event(event, part, path)
                else:
                    records.add(event, part, path)
                continue
            check.observe_rows(batch, reader.rejected)
            whole = parts.place_rows(batch) if max(batch.steps) <= INT64_MAX else None
            if whole is not None:
                steps.add_rows(batch, whole, path)
                continue
            for event in batch.events():
                small = _with_small_step(event, log, path)
                steps.add_event(small, parts.place(small), path)

    def tables(self) -> Tables:
        """The tables of all files that were added; nothing can be added after it."""
        small = {name: table_of(SCHEMAS[name], rows) for name, rows in self._rows.items()}
        return Tables(steps=self._steps.table(), **self._records.tables(), **small)
