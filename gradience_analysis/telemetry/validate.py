"""Holds one file against the contract: every line, and the rules across lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gradience_analysis.model import Issue, IssueCount
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.read import EventReader
from gradience_analysis.telemetry.rules import CrossLineCheck
from gradience_schema import Severity


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """What is in a file, and what is wrong with it.

    Attributes:
        path: The file.
        lines: Lines in it, blank ones included.
        size: Bytes in it.
        events: Valid events in it, by type.
        rejected: Lines that gave no event.
        run_ids: Runs it holds records of, in order of appearance.
        issues: The issues that were kept, in order of their place.
        issue_counts: Every issue, by code, worst first.
    """

    path: str
    lines: int
    size: int
    events: Mapping[str, int]
    rejected: int
    run_ids: tuple[str, ...]
    issues: tuple[Issue, ...]
    issue_counts: tuple[IssueCount, ...]

    def count(self, severity: Severity) -> int:
        """Issues of one severity, kept or not."""
        return sum(item.count for item in self.issue_counts if item.severity is severity)

    @property
    def ok(self) -> bool:
        """Whether there is no error (a file without a single valid event has one)."""
        return not self.count(Severity.ERROR)


def validate(
    path: str | Path, *, strict: bool = False, cross_line: bool = True, max_issues: int = 100
) -> ValidationReport:
    """Read a file to its end and report what is wrong with it.

    Args:
        path: A telemetry file.
        strict: Warnings and unknown events count as errors.
        cross_line: Check the rules that span lines.
        max_issues: Issues kept per code; all are counted.

    Raises:
        InputError: The path cannot be read at all (missing, not a regular file, compressed, not UTF-8).
        ForeignLayoutError: It is a training log in another layout.
    """
    log = IssueLog(strict=strict, keep_per_code=max_issues)
    reader = EventReader(path, log)
    check = CrossLineCheck(reader.path, log) if cross_line else None
    events: Counter[str] = Counter()
    run_ids: dict[str, None] = {}
    for event in reader:
        events[event.event] += 1
        run_ids[event.run_id] = None
        if check is not None:
            check.observe(event, reader.rejected)
    if not events:
        what = "is empty." if not reader.size else "holds no valid telemetry/v1 event."
        log.add(Issue("no_events", Severity.ERROR, what, str(path)))
    return ValidationReport(
        path=str(path),
        lines=reader.lines,
        size=reader.size,
        events=dict(events),
        rejected=reader.rejected,
        run_ids=tuple(run_ids),
        issues=tuple(sorted(log.kept, key=lambda issue: issue.line or 0)),
        issue_counts=log.counts,
    )
