"""`TelemetryReader`: one file, read event by event, with the calls that users' scripts know."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gradience_analysis.errors import SchemaViolationError
from gradience_analysis.model import EvalPoint, Event, Run, as_number, canonical_split
from gradience_analysis.telemetry.assemble import load_run
from gradience_analysis.telemetry.foreign import reader_of
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.read import EventReader
from gradience_analysis.telemetry.signals import Gap, generalization_gap
from gradience_analysis.telemetry.validate import validate
from gradience_schema import ConfigSnapshot, Severity


@dataclass(frozen=True, slots=True)
class Signals:
    """What a run shows, in a few numbers; None where it was not logged.

    Attributes:
        train: Metrics of the last evaluation of split train.
        test: Metrics of the last evaluation of split test (of val without one).
        gap: Generalization gap at the last evaluation: a ratio, 1 means none.
        stable_rank_mean: From the last adapter audit.
        utilization_mean: From the last adapter audit, fraction 0..1.
        extras: Run id, status, split behind `test`, how the gap was taken or why there is none, counts of alerts.
    """

    train: Mapping[str, Any] | None
    test: Mapping[str, Any] | None
    gap: float | None
    stable_rank_mean: float | None
    utilization_mean: float | None
    extras: Mapping[str, Any] = field(default_factory=dict[str, Any])


class TelemetryReader:
    """Reads one run.

    Args:
        path: A telemetry file, or the directory of a run's segments.
        strict_schema: Raise on the first error in the file in place of passing over the line.

    Raises:
        InputError: From every method, when the path cannot be read as telemetry.
        SchemaViolationError: From every method but `validate`, under `strict_schema`, on an error.
    """

    def __init__(self, path: str | Path, *, strict_schema: bool = False) -> None:
        self.path = Path(path)
        self.strict_schema = strict_schema

    @cached_property
    def run(self) -> Run:
        """The whole run, assembled from its segments."""
        run = load_run(self.path)
        if self.strict_schema:
            for issue in run.issues:
                if issue.severity is Severity.ERROR:
                    raise SchemaViolationError(issue.path, issue.line, issue.message)
        return run

    def iter_events(self, event_type: str | None = None) -> Iterator[Event]:
        """Valid events in file order, read as they are asked for; of a directory, those of the assembled run.

        Args:
            event_type: Give only events of this type.
        """
        source = self._stream() if self.path.is_file() else iter(self.run.events)
        return (event for event in source if event_type is None or event.event == event_type)

    def _stream(self) -> Iterator[Event]:
        log = IssueLog()
        for event in reader_of(self.path, log, EventReader):
            self._raise_on(log)
            yield event
        self._raise_on(log)

    def _raise_on(self, log: IssueLog) -> None:
        if not self.strict_schema:
            return
        for issue in log.kept:
            if issue.severity is Severity.ERROR:
                raise SchemaViolationError(issue.path, issue.line, issue.message)

    def latest_config(self) -> ConfigSnapshot | None:
        """Configuration of the newest run_start; None without one."""
        return self.run.config

    def latest_eval(self, split: str | None = None) -> EvalPoint | None:
        """The last evaluation of a split (of any without one); `eval`, `validation` and `dev` mean `val`."""
        wanted = None if split is None else canonical_split(split)
        points = [
            EvalPoint(event.step, event.ts, canonical_split(event.payload["split"]), event.payload["metrics"])
            for event in self.run.of("eval")
        ]
        return next((point for point in reversed(points) if wanted in {None, point.split}), None)

    def summarize(self) -> Signals:
        """The signals of the run, as its last evaluations and its last audit show them."""
        run = self.run
        train, test = self.latest_eval("train"), self.latest_eval("test") or self.latest_eval("val")
        audits = run.metrics.get("lora_audit")
        audit: Mapping[str, Any] = audits[-1].payload["metrics"] if audits else {}
        # An audit of no layers writes zeros; nothing was measured by it.
        measured = audit if audit.get("n_layers") != 0 else {}
        gap = generalization_gap(run)
        return Signals(
            train=None if train is None else dict(train.metrics),
            test=None if test is None else dict(test.metrics),
            gap=gap.last.ratio if isinstance(gap, Gap) and math.isfinite(gap.last.ratio) else None,
            stable_rank_mean=as_number(measured.get("stable_rank_mean")),
            utilization_mean=as_number(measured.get("utilization_mean")),
            extras={
                "run_id": run.run_id,
                "status": run.status_text,
                "test_split": None if test is None else test.split,
                "gap_kind": gap.kind if isinstance(gap, Gap) else None,
                "gap_reason": "" if isinstance(gap, Gap) else gap,
                "n_alerts": len(run.alerts),
            },
        )

    def validate(self) -> list[str]:
        """Every issue of the file, one sentence each, with its place; empty for a clean file."""
        if self.path.is_dir():
            return [str(issue) for issue in load_run(self.path).issues]
        return [str(issue) for issue in validate(self.path, max_issues=1_000_000).issues]
