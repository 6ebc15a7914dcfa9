"""Files to one `Run`: the newest run in them, its segments in order, and the view in which later ones win."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradience_analysis.errors import NoTelemetryError
from gradience_analysis.model import Event, Issue, Run, Segment
from gradience_analysis.telemetry.batches import BatchReader, Rows
from gradience_analysis.telemetry.cross_line import CROSS_LINE_CODES, CrossLineCheck
from gradience_analysis.telemetry.files import OTHER_VERSION, TelemetryFile, find_files
from gradience_analysis.telemetry.foreign import ForeignReader, layout_issue, reader_of
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.liveness import read_time, writer_alive
from gradience_analysis.telemetry.ordering import SUPERSEDED, first_step, in_order, limits
from gradience_analysis.telemetry.stretches import FileSplit, Stretch
from gradience_schema import ConfigSnapshot, Severity

_SHOWN_RUNS = 5


def load_run(path: str | Path, *, run_id: str | None = None, strict: bool = False, now: float | None = None) -> Run:
    """Load a run from a telemetry file, any one of its segments, or the directory they are in.

    A directory that holds several runs gives the newest one, with an issue that names the others. A file in
    which the run was appended to (a second run_start, or `step` going back) is split into segments there.

    Args:
        path: File or directory.
        run_id: Which run of several to load; None for the newest.
        strict: Warnings and unknown events count as errors.
        now: Unix seconds to take for the time of reading; None for that of the clock.

    Raises:
        InputError: The path cannot be read as telemetry, or holds no such run; the subclass and the message say why.
    """
    path = Path(path)
    log = IssueLog(strict=strict)
    files = find_files(path)
    # A run that no file starts with may have been appended to one that starts with another.
    wanted = run_id if any(file.run_id == run_id for file in files) else _newest(files).run_id
    chosen = [file for file in files if file.run_id == wanted]
    stretches: list[Stretch] = []
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
        other = any(item.code == "unknown_schema" for item in log.counts)
        raise NoTelemetryError(
            str(path), details, OTHER_VERSION if other else "`gradience validate` lists what is wrong."
        )
    chosen_id = _pick(path, run_id, stretches)
    if run_id is None:
        others = {file.run_id for file in files} | {stretch.run_id for stretch in stretches}
        _report_others(log, path, chosen_id, others - {chosen_id, None})
    mine = [stretch for stretch in stretches if stretch.run_id == chosen_id]
    return build_run(path, chosen_id, mine, log, rejected=rejected, missing=missing, now=now)


def _pick(path: Path, run_id: str | None, stretches: list[Stretch]) -> str:
    """The run that was asked for, or the one of the newest stretch.

    Raises:
        NoTelemetryError: There is no such run.
    """
    if run_id is None:
        return max(stretches, key=lambda stretch: stretch.events[0].ts).run_id
    present = {stretch.run_id for stretch in stretches}
    if run_id not in present:
        names = ", ".join(sorted(name[:80] for name in present)[:_SHOWN_RUNS])
        raise NoTelemetryError(str(path), f"holds no run {run_id[:80]!r}.", f"It holds {names}.")
    return run_id


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


def _stretches(file: TelemetryFile, reader: BatchReader | ForeignReader, check: CrossLineCheck) -> list[Stretch]:
    split = FileSplit(file)
    for batch in reader:
        if isinstance(batch, Rows):
            check.observe_rows(batch, reader.rejected)
            split.add_rows(batch)
        else:
            check.observe(batch, reader.rejected)
            split.add(batch)
    return split.stretches


def build_run(
    path: Path,
    run_id: str,
    stretches: list[Stretch],
    log: IssueLog,
    *,
    rejected: int,
    missing: int,
    now: float | None = None,
) -> Run:
    """The run that stretches make up: its segments in order, and the analysis view.

    Args:
        path: What the run is named after in reports.
        run_id: The run.
        stretches: Its stretches, of every rank, at least one.
        log: Issues of its files.
        rejected: Lines of them that gave no event.
        missing: Events that gaps in `seq` show to be lost besides.
        now: Unix seconds to take for the time of reading; None for that of the clock.
    """
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
        read_at=read_time(segments, now),
        writer_alive=writer_alive(main),
    )


def _segments(stretches: list[Stretch]) -> list[Segment]:
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


def _resume_step(stretch: Stretch) -> int | None:
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
