"""One telemetry file into its tables, in one pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gradience_analysis.model import Issue
from gradience_analysis.sources.lines import Line
from gradience_analysis.tables.arrow import pa
from gradience_analysis.tables.layout import BAD_LINES, FILES, ISSUE_COUNTS, ISSUES, Tables
from gradience_analysis.tables.long import Records
from gradience_analysis.tables.parts import Parts
from gradience_analysis.tables.steps import StepRows
from gradience_analysis.telemetry.batches import BatchReader, Rows
from gradience_analysis.telemetry.cross_line import CROSS_LINE_CODES, CrossLineCheck
from gradience_analysis.telemetry.foreign import ForeignReader, reader_of
from gradience_analysis.telemetry.issues import IssueLog

TELEMETRY = "telemetry/v1"
"""What the column `format` of the table `files` says of our own files; of others, the name of their importer."""


def read_file(path: str | Path, *, bad_lines: bool = False, max_issues: int = 100) -> Tables:
    """Read one file to its end.

    Args:
        path: A telemetry file or a log of another tool, gzip or not; the tables name it as it is given here.
        bad_lines: Keep the bytes of every refused line (of a log of another tool there are only the issues).
        max_issues: Issues kept per code; all are counted.

    Raises:
        InputError: The path cannot be read at all.
    """
    name = str(path)
    log = IssueLog(keep_per_code=max_issues)
    refused: list[Line] = []
    keep = refused.append if bad_lines else None
    reader = reader_of(path, log, lambda path, log: BatchReader(path, log, keep))
    check = CrossLineCheck(path, log, CROSS_LINE_CODES if isinstance(reader, ForeignReader) else ())
    steps, records, parts = StepRows(), Records(), Parts()
    for batch in reader:
        if isinstance(batch, Rows):
            check.observe_rows(batch, reader.rejected)
            part = parts.place_rows(batch)
            if part is not None:
                steps.add_rows(batch, part.part, part.run_id)
                continue
            for event in batch.events():
                steps.add_event(event, parts.place(event).part)
            continue
        check.observe(batch, reader.rejected)
        place = parts.place(batch).part
        if batch.event == "train_step":
            steps.add_event(batch, place)
        else:
            records.add(batch, place)
    layout = reader.importer.name if isinstance(reader, ForeignReader) else TELEMETRY
    file = (name, layout, reader.lines, reader.size, reader.events, reader.rejected, check.missing)
    return Tables(
        steps=steps.table(name),
        parts=parts.table(name),
        issues=_issues(log.kept),
        issue_counts=_rows(ISSUE_COUNTS, [(name, item.code, str(item.severity), item.count) for item in log.counts]),
        bad_lines=_rows(BAD_LINES, [(name, line.number, line.offset, line.size, line.data) for line in refused]),
        files=_rows(FILES, [file]),
        **records.tables(name),
    )


def _issues(issues: list[Issue]) -> Any:
    return pa.Table.from_pylist([issue.to_dict() for issue in issues], schema=ISSUES)


def _rows(schema: Any, rows: list[tuple[Any, ...]]) -> Any:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([list(column) for column in columns], schema=schema)
