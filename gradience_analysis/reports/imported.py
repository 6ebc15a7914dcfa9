"""What `gradience import` says about the log that it turned into telemetry/v1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradience_analysis.model import Field, Fields, Issue, IssueCount, Note, Report, Section, plural
from gradience_analysis.reports.remarks import issue_notes
from gradience_schema import Severity

SCHEMA = "gradience.import/v1"


@dataclass(frozen=True, slots=True)
class Imported:
    """A log that was imported.

    Attributes:
        source: The log.
        format: Name of its importer.
        title: The format in words.
        run_id: Run id that its records were given.
        has_times: Whether it holds times; without them `ts` is the order of the records.
        files: What was written, in order of the segments: path and number of records.
        events: Records written, by event type.
        issues: The issues that were kept.
        issue_counts: Every issue, by code, worst first.
    """

    source: str
    format: str
    title: str
    run_id: str
    has_times: bool
    files: tuple[tuple[str, int], ...]
    events: Mapping[str, int]
    issues: tuple[Issue, ...]
    issue_counts: tuple[IssueCount, ...]

    def count(self, severity: Severity) -> int:
        """Issues of one severity, kept or not."""
        return sum(item.count for item in self.issue_counts if item.severity is severity)

    @property
    def ok(self) -> bool:
        """Whether there was something to import, and nothing of it had to be left out."""
        return not self.count(Severity.ERROR) and bool(self.events.keys() - {"run_start"})


def import_report(imported: Imported) -> Report:
    """The files that were written, what is in them, and what was noticed on the way."""
    verdict = _verdict(imported)
    records = ", ".join(f"{name} {number:,}" for name, number in imported.events.items())
    times = "from the log" if imported.has_times else "not in the log: ts is the order of the records"
    fields = (
        Field("Format", f"{imported.title} ({imported.format})"),
        *(Field("Written", f"{path} ({plural(count, 'record')})") for path, count in imported.files),
        Field("Records", records),
        Field("Times", times),
        Field("Run id", imported.run_id),
    )
    notes = issue_notes(imported.issues, imported.issue_counts, verbose=False)
    blocks = (Fields(fields), notes) if imported.issue_counts else (Fields(fields),)
    return Report("import", imported.source, verdict, (Section("", blocks),), _data(imported, verdict))


def _verdict(imported: Imported) -> Note:
    errors, warnings = imported.count(Severity.ERROR), imported.count(Severity.WARNING)
    total = plural(sum(imported.events.values()), "record")
    if errors:
        return Note(Severity.ERROR, f"{total} written; {plural(errors, 'row')} of the log could not be read.")
    if warnings:
        return Note(Severity.WARNING, f"{total} written, with {plural(warnings, 'warning')}.")
    return Note(Severity.INFO, f"{total} written.")


def _data(imported: Imported, verdict: Note) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "verdict": {"severity": str(verdict.severity), "text": verdict.text},
        "ok": imported.ok,
        "source": imported.source,
        "format": imported.format,
        "run_id": imported.run_id,
        "has_times": imported.has_times,
        "files": [{"path": path, "records": count} for path, count in imported.files],
        "events": dict(imported.events),
        "errors": imported.count(Severity.ERROR),
        "warnings": imported.count(Severity.WARNING),
        "infos": imported.count(Severity.INFO),
        "issue_counts": [
            {"code": item.code, "severity": str(item.severity), "count": item.count} for item in imported.issue_counts
        ],
        "issues": [issue.to_dict() for issue in imported.issues],
    }
