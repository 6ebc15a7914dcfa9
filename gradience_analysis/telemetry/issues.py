"""A record of faults that keeps some and counts all."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gradience_analysis.model import Issue, IssueCount
from gradience_analysis.model.gravity import SEVERITY_RANK
from gradience_schema import Severity

# Tolerated by default and refused under strict reading, besides every warning.
_STRICT_ERRORS = frozenset({"unknown_event"})
# A key of a megabyte makes a pointer of a megabyte, and a hundred issues of each code are kept.
_MAX_CHARS = 1_000


@dataclass
class IssueLog:
    """Collects the issues of one reading.

    Attributes:
        strict: Warnings and unknown events count as errors.
        keep_per_code: How many issues of one code are kept; the rest is counted only, so that a file of
            a million bad lines costs no memory.
        kept: The issues that were kept, in order.
    """

    strict: bool = False
    keep_per_code: int = 100
    kept: list[Issue] = field(default_factory=list[Issue])
    _counts: dict[tuple[str, Severity], int] = field(default_factory=dict[tuple[str, Severity], int])

    def add(self, issue: Issue) -> None:
        """Count the issue, and keep it while there is room for its code; what is very long in it is cut."""
        if self.strict and (issue.severity is Severity.WARNING or issue.code in _STRICT_ERRORS):
            issue = replace(issue, severity=Severity.ERROR)
        key = (issue.code, issue.severity)
        seen = self._counts.get(key, 0)
        self._counts[key] = seen + 1
        if seen < self.keep_per_code:
            self.kept.append(_cut(issue))

    @property
    def counts(self) -> tuple[IssueCount, ...]:
        """Totals by code, worst severity first, then by number."""
        totals = (IssueCount(code, severity, count) for (code, severity), count in self._counts.items())
        return tuple(sorted(totals, key=lambda item: (SEVERITY_RANK[item.severity], -item.count, item.code)))

    def first_error(self) -> str:
        """The first error that was kept, as the end of a sentence: ` (line 3: ...).`, or a full stop."""
        worst = next((issue for issue in self.kept if issue.severity is Severity.ERROR), None)
        if worst is None:
            return "."
        place = "" if worst.line is None else f"line {worst.line}: "
        return f" ({place}{worst.message.rstrip('.')})."

    def total(self, severity: Severity) -> int:
        """How many issues of this severity there were, kept or not."""
        return sum(item.count for item in self.counts if item.severity is severity)


def _cut(issue: Issue) -> Issue:
    message, pointer = issue.message, issue.pointer or ""
    if len(message) <= _MAX_CHARS and len(pointer) <= _MAX_CHARS:
        return issue
    if len(message) > _MAX_CHARS:
        issue = replace(issue, message=f"{message[:_MAX_CHARS]}…")
    return replace(issue, pointer=f"{pointer[:_MAX_CHARS]}…") if len(pointer) > _MAX_CHARS else issue
