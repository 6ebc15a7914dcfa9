"""Files to one `Run`: the newest run in them, its segments in order, and the view in which later ones win."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from gradience_analysis.errors import NoTelemetryError
from gradience_analysis.model import Event, Issue, Run, Segment
from gradience_analysis.telemetry.batches import BatchReader, Rows
from gradience_analysis.telemetry.cross_line import CROSS_LINE_CODES, CrossLineCheck
from gradience_analysis.telemetry.files import TelemetryFile, find_files
from gradience_analysis.telemetry.foreign import ForeignReader, layout_issue, reader_of
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.ordering import SUPERSEDED, first_step, in_order, limits
from gradience_schema import ConfigSnapshot, Severity

_SHOWN_RUNS = 5


@dataclass
class _Stretch:
    """An uninterrupted part of one file, on its way to become a segment."""

    file: TelemetryFile
    part: int
    events: list[Event] = field(default_factory=list[Event])

    @property
    def start(self) -> Event | None:
        return next((event for event in self.events if event.event == "run_start"), None)

    @property
    def meta(self) -> dict[str, Any]:
        meta = None if self.start is None else self.start.payload.get("meta")
        return cast("dict[str, Any]", meta) if isinstance(meta, dict) else {}

    @property
    def number(self) -> int | None:
        """`meta.segment`; None when the run_start names none, as that of a first segment does."""
        number = self.meta.get("segment")
        return None if number is None else int(number)


def load_run(path: str | Path, *, strict: bool = False) -> Run:
    """Load a run from a telemetry file, any one of its segments, or the directory they are in.

    A directory that holds several runs gives the newest one, with an issue that names the others. A file in
    which the run was appended to (a second run_start, or `step` going back) is split into segments there.

    Args:
        path: File or directory.
        strict: Warnings and unknown events count as errors.

    Raises:
        InputError: The path cannot be read as telemetry; the subclass and the message say why.
    """
    path = Path(path)
    log = IssueLog(strict=strict)
    files = find_files(path)
    chosen = [file for file in files if file.run_id == _newest(files).run_id]
    stretches: list[_Stretch] = []
    rejected = missing = 0
    for file in chosen:
        reader = reader_of(file.path, log, BatchReader)
        skip: Collection[str] = ()
        if isinstance(reader, ForeignReader):
            log.add(replace(layout_issue(reader), severity=Severity.INFO))
            skip = CROSS_LINE_CODES
        check = CrossLineCheck(file.path, log, skip)
        stretches.extend(_stretches(file, reader, check))
        rejected += reader.rejected
        missing += check.missing
    if not stretches:
        details = f"holds no valid telemetry/v1 event{log.first_error()}"
        raise NoTelemetryError(str(path), details, "`gradience validate` lists what is wrong.")
    run_id = max(stretches, key=lambda stretch: stretch.events[0].ts).events[0].run_id
    others = {file.run_id for file in files if file not in chosen} | {stretch.events[0].run_id for stretch in stretches}
    _report_others(log, path, run_id, others - {run_id, None})
    mine = [stretch for stretch in stretches if stretch.events[0].run_id == run_id]
    return _run(path, run_id, mine, log, rejected=rejected, missing=missing)


def _newest(files: list[TelemetryFile]) -> TelemetryFile:
    return max(files, key=lambda file: (file.run_id is not None, file.ts))


def _report_others(log: IssueLog, path: Path, run_id: str, others: Iterable[str | None]) -> None:
    names = sorted(name[:80] for name in others if name is not None)
    if not names:
        return
    shown = ", ".join(names[:_SHOWN_RUNS]) + (
        f" and {len(names) - _SHOWN_RUNS} more" if len(names) > _SHOWN_RUNS else ""
    )
    message = f"holds several runs; this is the newest one ({run_id[:80]}). The others: {shown}."
    log.add(Issue("other_runs", Severity.INFO, message, str(path)))


class _Split:
    """Stretches of one file: a new one where a run starts again or its `train_step` goes back."""

    def __init__(self, file: TelemetryFile) -> None:
        self.stretches: list[_Stretch] = []
        self._file = file
        self._current: dict[str, _Stretch] = {}
        self._last_step: dict[str, int] = {}

    def add(self, event: Event) -> None:
        """Add the next event of the file."""
        stretch = self._current.get(event.run_id)
        trained = event.step if event.event == "train_step" else None
        back = trained is not None and trained < self._last_step.get(event.run_id, -1)
        if stretch is None or back or event.event == "run_start":
            stretch = self._begin(event.run_id)
        stretch.events.append(event)
        if trained is not None:
            self._last_step[event.run_id] = trained

    def add_rows(self, rows: Rows) -> None:
        """Add the next rows of the file."""
        run_id, *others = rows.run_ids
        if others or not rows.steps_rise or rows.steps[0] < self._last_step.get(run_id, -1):
            for event in rows.events():
                self.add(event)
            return
        stretch = self._current.get(run_id) or self._begin(run_id)
        stretch.events.extend(rows.events())
        self._last_step[run_id] = rows.steps[-1]

    def _begin(self, run_id: str) -> _Stretch:
        stretch = _Stretch(self._file, len(self.stretches))
        self.stretches.append(stretch)
        self._current[run_id] = stretch
        self._last_step.pop(run_id, None)
        return stretch


def _stretches(file: TelemetryFile, reader: BatchReader | ForeignReader, check: CrossLineCheck) -> list[_Stretch]:
    split = _Split(file)
    for batch in reader:
        if isinstance(batch, Rows):
            check.observe_rows(batch, reader.rejected)
            split.add_rows(batch)
        else:
            check.observe(batch, reader.rejected)
            split.add(batch)
    return split.stretches


def _run(path: Path, run_id: str, stretches: list[_Stretch], log: IssueLog, *, rejected: int, missing: int) -> Run:
    segments = [
        segment
        for rank in sorted({stretch.file.rank for stretch in stretches})
        for segment in _segments([stretch for stretch in stretches if stretch.file.rank == rank])
    ]
    first_rank = segments[0].rank
    main = tuple(segment for segment in segments if segment.rank == first_rank)
    if first_rank:
        message = f"there is no segment of rank 0; this is rank {first_rank}."
        log.add(Issue("no_rank_0", Severity.WARNING, message, str(path)))
    starts = [event for segment in main for event in segment.events if event.event == "run_start"]
    raw: Mapping[str, Any] = starts[-1].payload["config"] if starts else {}
    meta: Mapping[str, Any] = starts[-1].payload.get("meta") or {} if starts else {}
    return Run(
        path=str(path),
        run_id=run_id,
        segments=main,
        events=_analysis_view(main),
        other_ranks=tuple(segment for segment in segments if segment.rank != first_rank),
        config=ConfigSnapshot.from_dict(raw) if starts else None,
        raw_config=raw,
        meta=meta,
        issues=tuple(log.kept),
        issue_counts=log.counts,
        lines_rejected=rejected,
        events_missing=missing,
    )


def _segments(stretches: list[_Stretch]) -> list[Segment]:
    ordered = in_order(stretches, lambda stretch: stretch.number, lambda stretch: (stretch.file.index, stretch.part))
    return [
        Segment(
            path=str(stretch.file.path),
            index=index,
            rank=stretch.file.rank,
            events=tuple(stretch.events),
            meta=stretch.meta,
            resume_step=_resume_step(stretch),
        )
        for index, stretch in enumerate(ordered)
    ]


def _resume_step(stretch: _Stretch) -> int | None:
    step = stretch.meta.get("resume_step")
    return None if step is None else int(step)


def _analysis_view(segments: tuple[Segment, ...]) -> tuple[Event, ...]:
    """Records in order, without the steps that a later segment trained again."""
    if len(segments) == 1:
        return segments[0].events
    return tuple(
        event
        for segment, limit in zip(segments, limits([_first_step(segment) for segment in segments]), strict=True)
        for event in segment.events
        if not (event.event in SUPERSEDED and event.step is not None and event.step >= limit)
    )


def _first_step(segment: Segment) -> float:
    steps = [event.step for event in segment.events if event.event == "train_step" and event.step is not None]
    return first_step(segment.resume_step, min(steps, default=None))
