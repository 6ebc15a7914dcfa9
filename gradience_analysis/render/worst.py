"""The order in which the formats that may show only a few remarks choose them."""

from __future__ import annotations

from collections.abc import Sequence

from gradience_analysis.model import Issue
from gradience_analysis.model.gravity import SEVERITY_RANK
from gradience_analysis.model.report import Result
from gradience_schema import Severity


def worst_first(results: Sequence[Result]) -> list[Issue]:
    """Every kept issue: worse ones first, and among equals the first of each code and result before the second."""
    ranked: list[tuple[int, int, Issue]] = []
    for result in results:
        seen: dict[str, int] = {}
        for issue in result.issues:
            nth = seen[issue.code] = seen.get(issue.code, 0) + 1
            ranked.append((SEVERITY_RANK[issue.severity], nth, issue))
    return [issue for _, _, issue in sorted(ranked, key=lambda item: item[:2])]


def not_shown(results: Sequence[Result], shown: Sequence[Issue]) -> list[tuple[Severity, int]]:
    """How many issues of each severity there are besides the shown ones, worst first; none with a count of 0."""
    left = [
        (severity, sum(result.count(severity) for result in results) - sum(one.severity is severity for one in shown))
        for severity in SEVERITY_RANK
    ]
    return [(severity, number) for severity, number in left if number > 0]
