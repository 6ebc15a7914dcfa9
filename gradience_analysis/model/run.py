"""One training run, assembled from its segments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from gradience_analysis.model.event import Event, Issue, IssueCount, Segment
from gradience_analysis.model.finding import Place
from gradience_schema import ConfigSnapshot, RunStatus, Severity

if TYPE_CHECKING:
    import pandas as pd

# The early emitter's Hugging Face callback writes its evaluations as split `eval`.
_VALIDATION_NAMES = frozenset({"eval", "validation", "dev", "valid"})
NO_RUN_END = "no run_end (running or crashed)"


def canonical_split(split: str) -> str:
    """`val` for every usual name of a validation split; any other name unchanged."""
    return "val" if split.lower() in _VALIDATION_NAMES else split


def as_number(value: object) -> float | int | None:
    """The value when it is a JSON number (NaN and infinity included), else None; a bool is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value


def first_number(value: object) -> float | int | None:
    """A number, or the first number of a list (a learning rate per parameter group), else None."""
    if isinstance(value, list):
        items = cast("list[object]", value)
        return as_number(items[0]) if items else None
    return as_number(value)


@dataclass(frozen=True, slots=True)
class EvalPoint:
    """One evaluation of one split.

    Attributes:
        step: Optimizer step it was made at, or None when the record has none.
        ts: Unix seconds.
        split: Canonical split name.
        metrics: Metric values as they were written, non-finite values restored.
    """

    step: int | None
    ts: float
    split: str
    metrics: Mapping[str, Any]

    def number(self, metric: str) -> float | int | None:
        """The metric as a number, or None when it is absent or not a number."""
        return as_number(self.metrics.get(metric))


@dataclass(frozen=True)
class Run:
    """A run on rank 0, with the segments of the other ranks kept apart.

    Attributes:
        path: The path it was loaded from.
        run_id: Identifier of the run.
        segments: Raw view: every record of rank 0, in segment order.
        events: Analysis view: where segments overlap, the later one has won.
        other_ranks: Segments that other ranks wrote.
        config: Typed configuration of the newest run_start; None without one.
        raw_config: The same as it was written; empty without one.
        meta: `run_start.meta` of the newest run_start.
        issues: Faults that were kept; `issue_counts` counts every one.
        lines_rejected: Lines of its files that gave no event.
        events_missing: Events that gaps in `seq` show to be lost, besides the rejected lines.
        read_at: Unix seconds when it was read; None when that has no meaning, as for a log without times.
        writer_alive: Whether the process that wrote it still runs, when that can be told on this machine; else None.
    """

    path: str
    run_id: str
    segments: tuple[Segment, ...]
    events: tuple[Event, ...]
    other_ranks: tuple[Segment, ...] = ()
    config: ConfigSnapshot | None = None
    raw_config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])
    issues: tuple[Issue, ...] = ()
    issue_counts: tuple[IssueCount, ...] = ()
    lines_rejected: int = 0
    events_missing: int = 0
    read_at: float | None = None
    writer_alive: bool | None = None

    def place(self, event: Event) -> Place:
        """Where one of its records stands."""
        for segment in (*self.segments, *self.other_ranks):
            if any(one is event for one in segment.events):
                return segment.place(event)
        return Place(event.step)

    def of(self, event: str) -> Sequence[Event]:
        """Records of one type in the analysis view, in order."""
        return self._by_type.get(event, ())

    @cached_property
    def _by_type(self) -> Mapping[str, Sequence[Event]]:
        by_type: dict[str, list[Event]] = {}
        for event in self.events:
            by_type.setdefault(event.event, []).append(event)
        return by_type

    @cached_property
    def last_step(self) -> int | None:
        """The highest step of any record in the analysis view; None when no record names one."""
        return max((event.step for event in self.events if event.step is not None), default=None)

    @property
    def status(self) -> RunStatus | None:
        """Status of the last segment's run_end; None when it has none."""
        end = self.segments[-1].end
        return None if end is None else RunStatus(end.payload["status"])

    @property
    def status_text(self) -> str:
        """`ok`, `aborted`, `error`, or a sentence when there is no run_end."""
        status = self.status
        return NO_RUN_END if status is None else str(status)

    @property
    def reason(self) -> str:
        """Reason given by the last segment's run_end; empty without one."""
        end = self.segments[-1].end
        reason = None if end is None else end.payload.get("reason")
        return reason if isinstance(reason, str) else ""

    @property
    def duration_s(self) -> float | None:
        """Seconds of activity: the sum over segments, so that a pause between two does not count.

        None when a segment has no times.
        """
        spent = [segment.duration_s for segment in self.segments]
        return None if None in spent else math.fsum(seconds for seconds in spent if seconds is not None)

    @cached_property
    def logged_steps(self) -> tuple[Event, ...]:
        """`train_step` records that carry a loss (or its non-finite mark); a summary row does not count."""
        return tuple(event for event in self.of("train_step") if "loss" in event.payload)

    def series(self, name: str) -> Sequence[tuple[int, float]]:
        """(step, value) of one numeric `train_step` field; of a list, its first entry. Empty without one."""
        return self.all_series.get(name, ())

    @cached_property
    def all_series(self) -> Mapping[str, Sequence[tuple[int, float]]]:
        """Every numeric `train_step` field as a curve, in the order in which the fields first appear."""
        curves: dict[str, list[tuple[int, float]]] = {}
        for event in self.of("train_step"):
            step = event.step
            if step is None:
                continue
            for name, value in event.payload.items():
                number = value if type(value) is float else first_number(value)
                if number is None:
                    continue
                curve = curves.get(name)
                if curve is None:
                    curve = curves[name] = []
                curve.append((step, float(number)))
        return curves

    @cached_property
    def evaluations(self) -> Mapping[str, tuple[EvalPoint, ...]]:
        """Evaluations by canonical split, in order."""
        by_split: dict[str, list[EvalPoint]] = {}
        for event in self.of("eval"):
            split = canonical_split(event.payload["split"])
            point = EvalPoint(event.step, event.ts, split, event.payload["metrics"])
            by_split.setdefault(split, []).append(point)
        return {split: tuple(points) for split, points in by_split.items()}

    @cached_property
    def metrics(self) -> Mapping[str, tuple[Event, ...]]:
        """`metrics` records by kind, in order."""
        by_kind: dict[str, list[Event]] = {}
        for event in self.of("metrics"):
            by_kind.setdefault(event.payload["kind"], []).append(event)
        return {kind: tuple(events) for kind, events in by_kind.items()}

    @property
    def alerts(self) -> tuple[Event, ...]:
        """Every alert of every segment: what was superseded by a resume still happened."""
        return tuple(event for segment in self.segments for event in segment.events if event.event == "alert")

    def count_issues(self, *codes: str, severity: Severity | None = None) -> int:
        """Number of issues of these codes (of all without one) and of this severity (of any without one)."""
        return sum(
            item.count
            for item in self.issue_counts
            if (not codes or item.code in codes) and severity in {None, item.severity}
        )

    @cached_property
    def steps(self) -> pd.DataFrame:
        """One row per `train_step` of the analysis view: run_id, segment, step, ts, and every scalar field."""
        from gradience_analysis.model.frames import steps_frame

        return steps_frame(self)

    @cached_property
    def evals(self) -> pd.DataFrame:
        """Long form: run_id, segment, step, ts, split (canonical), metric, value."""
        from gradience_analysis.model.frames import evals_frame

        return evals_frame(self)
