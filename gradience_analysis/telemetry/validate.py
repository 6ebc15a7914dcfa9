"""Holds one file against the contract: every line, and the rules across lines."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gradience_analysis.model import Issue, IssueCount
from gradience_analysis.telemetry.batches import BatchReader, Rows
from gradience_analysis.telemetry.cross_line import CROSS_LINE_CODES, CrossLineCheck
from gradience_analysis.telemetry.foreign import ForeignReader, layout_issue, reader_of
from gradience_analysis.telemetry.issues import IssueLog
from gradience_schema import Severity

MAX_RUN_IDS = 1_000
MAX_EVENT_NAMES = 1_000
MAX_NAME_CHARS = 256
OTHERS = "(others)"


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """What is in a file, and what is wrong with it.

    Attributes:
        path: The file.
        lines: Lines in it, blank ones included.
        size: Bytes in it.
        events: Valid events in it, by type; of each name at most 256 characters. A file with more than a thousand
            names has the events of further ones under `(others)`.
        rejected: Lines that gave no event.
        run_ids: Runs it holds records of, in order of appearance; at most the first thousand, and of each at most 256
            characters.
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
    path: str | Path,
    *,
    strict: bool = False,
    cross_line: bool = True,
    skip_rules: Collection[str] = (),
    max_issues: int = 100,
) -> ValidationReport:
    """Read a file to its end and report what is wrong with it.

    Args:
        path: A telemetry file, gzip or not; `-` is standard input. A log of another tool is read too, and has the
            error `foreign_layout`, which says how to convert it.
        strict: Warnings and unknown events count as errors.
        cross_line: Check the rules that span lines.
        skip_rules: Codes of rules across lines that are switched off, of `CROSS_LINE_CODES`.
        max_issues: Issues kept per code; all are counted.

    Raises:
        InputError: The path cannot be read at all (missing, not a regular file, not UTF-8).
        ValueError: `skip_rules` names a rule that there is not.
    """
    log = IssueLog(strict=strict, keep_per_code=max_issues)
    reading = _Reading(path, log, skip_rules if cross_line else CROSS_LINE_CODES)
    for _ in reading:
        pass
    return reading.report()


def iter_issues(
    path: str | Path, *, strict: bool = False, cross_line: bool = True, skip_rules: Collection[str] = ()
) -> Iterator[Issue]:
    """Every issue of a file, while it is read, about in the order of their place; none is left out.

    Args:
        path: As for `validate`, as are the others.
        strict: Warnings and unknown events count as errors.
        cross_line: Check the rules that span lines.
        skip_rules: Codes of rules across lines that are switched off.

    Raises:
        InputError: As `validate`.
        ValueError: As `validate`.
    """
    log = IssueLog(strict=strict, keep_per_code=sys.maxsize)
    for _ in _Reading(path, log, skip_rules if cross_line else CROSS_LINE_CODES):
        yield from log.kept
        log.kept.clear()
    yield from log.kept


class _Reading:
    """One pass through a file; each step of the iteration is a stretch of it."""

    def __init__(self, path: str | Path, log: IssueLog, skip: Collection[str]) -> None:
        unknown = sorted(set(skip) - set(CROSS_LINE_CODES))
        if unknown:
            raise ValueError(f"no rule has the code {unknown[0]!r}; the codes are {', '.join(CROSS_LINE_CODES)}")
        self._log = log
        self._reader = reader_of(path, log, BatchReader)
        if isinstance(self._reader, ForeignReader):
            log.add(layout_issue(self._reader))
            skip = CROSS_LINE_CODES
        self._check = CrossLineCheck(path, log, skip)
        self._events: Counter[str] = Counter()
        self._run_ids: dict[str, None] = {}

    def __iter__(self) -> Iterator[None]:
        reader, check = self._reader, self._check
        for batch in reader:
            if isinstance(batch, Rows):
                self._events["train_step"] += len(batch.records)
                self._meet(*batch.run_ids)
                check.observe_rows(batch, reader.rejected)
            else:
                self._count(batch.event)
                self._meet(batch.run_id)
                check.observe(batch, reader.rejected)
            del batch  # a record of a megabyte may take 40 in memory: one at a time
            yield
        if not self._events:
            what = "is empty." if not reader.size else "holds no valid telemetry/v1 event."
            self._log.add(Issue("no_events", Severity.ERROR, what, reader.name))

    def _count(self, event: str) -> None:
        name = event[:MAX_NAME_CHARS]
        self._events[name if name in self._events or len(self._events) < MAX_EVENT_NAMES else OTHERS] += 1

    def _meet(self, *run_ids: str) -> None:
        for run_id in run_ids:
            if len(self._run_ids) < MAX_RUN_IDS:
                self._run_ids[run_id[:MAX_NAME_CHARS]] = None

    def report(self) -> ValidationReport:
        """What was seen."""
        return ValidationReport(
            path=self._reader.name,
            lines=self._reader.lines,
            size=self._reader.size,
            events=dict(self._events),
            rejected=self._reader.rejected,
            run_ids=tuple(self._run_ids),
            issues=tuple(sorted(self._log.kept, key=lambda issue: issue.line or 0)),
            issue_counts=self._log.counts,
        )
