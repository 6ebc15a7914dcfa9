"""What `gradience validate` says about the files it read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradience_analysis.model import Field, Fields, Note, Report, Section, plural
from gradience_analysis.reports.remarks import issue_notes
from gradience_analysis.telemetry.validate import ValidationReport
from gradience_schema import Severity

SCHEMA = "gradience.validate/v1"


def validate_report(files: Sequence[ValidationReport]) -> Report:
    """One section per file, and a verdict over all of them.

    Raises:
        ValueError: There is no file.
    """
    if not files:
        raise ValueError("a validation report needs at least one file")
    verdict = _verdict(files)
    data = {
        "schema": SCHEMA,
        "verdict": {"severity": str(verdict.severity), "text": verdict.text},
        "ok": all(file.ok for file in files),
        "files": [_data(file) for file in files],
    }
    title = files[0].path if len(files) == 1 else plural(len(files), "file")
    return Report("validate", title, verdict, tuple(_section(file) for file in files), data)


def _verdict(files: Sequence[ValidationReport]) -> Note:
    errors = sum(file.count(Severity.ERROR) for file in files)
    warnings = sum(file.count(Severity.WARNING) for file in files)
    what = plural(len(files), "file")
    if errors:
        bad = sum(not file.ok for file in files)
        return Note(Severity.ERROR, f"{plural(errors, 'error')} and {plural(warnings, 'warning')} in {bad} of {what}.")
    if warnings:
        return Note(Severity.WARNING, f"Valid telemetry/v1, with {plural(warnings, 'warning')} ({what}).")
    return Note(Severity.INFO, f"Valid telemetry/v1: {what}, {plural(sum(map(_total, files)), 'record')}.")


def _total(file: ValidationReport) -> int:
    return sum(file.events.values())


def _section(file: ValidationReport) -> Section:
    events = ", ".join(f"{name[:80]} {number:,}" for name, number in file.events.items()) or "none"
    fields = [
        Field("Lines", f"{file.lines:,} ({file.size:,} bytes), {plural(file.rejected, 'line')} refused"),
        Field("Records", events),
    ]
    if not file.issue_counts:
        return Section(file.path, (Fields((*fields, Field("Issues", "none"))),))
    return Section(file.path, (Fields(tuple(fields)), issue_notes(file.issues, file.issue_counts, verbose=True)))


def _data(file: ValidationReport) -> dict[str, Any]:
    return {
        "path": file.path,
        "ok": file.ok,
        "lines": file.lines,
        "bytes": file.size,
        "rejected": file.rejected,
        "events": dict(file.events),
        "run_ids": list(file.run_ids),
        "errors": file.count(Severity.ERROR),
        "warnings": file.count(Severity.WARNING),
        "infos": file.count(Severity.INFO),
        "issue_counts": [
            {"code": item.code, "severity": str(item.severity), "count": item.count} for item in file.issue_counts
        ],
        "issues": [issue.to_dict() for issue in file.issues],
    }
