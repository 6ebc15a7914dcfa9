"""What the issues of a run's files come to: where they stand, and which steps were refused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from gradience_analysis.model import Issue, Place, Run

SHOWN_PLACES = 5
REFUSED_VALUES = frozenset({"wrong_type", "bad_value"})
"""Codes of a record that is refused for the type or the value of a field."""


def issues_of(run: Run, codes: Collection[str], where: Callable[[Issue], bool] = lambda _: True) -> list[Issue]:
    """The issues of these codes that were kept, in order; at most 100 of each code."""
    return [issue for issue in run.issues if issue.code in codes and where(issue)]


def places_of(issues: Iterable[Issue]) -> tuple[Place, ...]:
    """The first places of issues, each once."""
    found: dict[Place, None] = {}
    for issue in issues:
        if len(found) == SHOWN_PLACES:
            break
        found[Place(None, issue.path, issue.line)] = None
    return tuple(found)


def refused_steps(run: Run) -> list[Issue]:
    """The issues of lines that were refused for their step, one a line."""
    refused = issues_of(run, REFUSED_VALUES, lambda issue: issue.pointer == "/step")
    return list({(issue.path, issue.line): issue for issue in refused}.values())
