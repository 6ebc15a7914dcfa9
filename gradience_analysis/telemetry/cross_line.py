"""Holds the events of a file, in order, against every rule that spans lines."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from gradience_analysis.model import Event, Issue
from gradience_analysis.sources.opening import shown_name
from gradience_analysis.telemetry.batches import Rows
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.rules import (
    ClockRunsForward,
    EndIsLast,
    FirstIsRunStart,
    MetricKeepsItsType,
    NumberIsNoString,
    OneRunId,
    OneRunStart,
    Rule,
    SequenceHasNoGap,
    StepRunsForward,
)
from gradience_schema import EVENT_TYPES

_RULES: tuple[Callable[[], Rule], ...] = (
    FirstIsRunStart,
    OneRunStart,
    EndIsLast,
    OneRunId,
    ClockRunsForward,
    StepRunsForward,
    SequenceHasNoGap,
    MetricKeepsItsType,
    NumberIsNoString,
)

CROSS_LINE_CODES: tuple[str, ...] = tuple(make().code for make in _RULES)
"""The issue code of each rule, by which it can be switched off."""


class CrossLineCheck:
    """Feeds the events of one file to every rule and records what they say.

    Args:
        path: The file, as issues name it.
        issues: Where breaches are recorded.
        skip: Codes of the rules that are switched off.
    """

    def __init__(self, path: str | Path, issues: IssueLog, skip: Collection[str] = ()) -> None:
        self._path = shown_name(path)
        self._issues = issues
        self._rules = [rule for rule in (make() for make in _RULES) if rule.code not in skip]
        self._by_event: dict[str, tuple[Rule, ...]] = {}

    @property
    def missing(self) -> int:
        """Events that gaps in `seq` show to be lost."""
        return sum(rule.missing for rule in self._rules if isinstance(rule, SequenceHasNoGap))

    def observe(self, event: Event, rejected: int) -> None:
        """Hold the next event of the file against every rule that sees its type.

        Args:
            event: The event.
            rejected: Lines of the file that were refused before it.
        """
        for rule in self._seeing(event.event):
            self._feed(rule, event, rejected)

    def observe_rows(self, rows: Rows, rejected: int) -> None:
        """Hold the next rows of the file against every rule that sees a `train_step`.

        Args:
            rows: The rows.
            rejected: Lines of the file that were refused before them.
        """
        events: list[Event] = []
        for rule in self._seeing("train_step"):
            if not rule.passes(rows, rejected):
                events = events or list(rows.events())
                for event in events:
                    self._feed(rule, event, rejected)

    def _seeing(self, event: str) -> tuple[Rule, ...]:
        rules = self._by_event.get(event)
        if rules is None:
            rules = tuple(rule for rule in self._rules if rule.sees is None or event in rule.sees)
            if event in EVENT_TYPES:
                self._by_event[event] = rules
        return rules

    def _feed(self, rule: Rule, event: Event, rejected: int) -> None:
        for message, pointer in rule.breaches(event, rejected):
            place = (self._path, event.line, event.byte_offset, pointer)
            self._issues.add(Issue(rule.code, rule.severity, message, *place))
