"""What one line, one fault in a line, and one file of telemetry become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gradience_analysis.model.finding import Place
from gradience_schema import Severity


@dataclass(frozen=True, slots=True)
class Issue:
    """One fault of a telemetry file, and where it is.

    Attributes:
        code: Stable slug, such as `invalid_json` or `seq_gap`.
        severity: `error` costs the record or breaks the contract; `warning` is tolerated; `info` is worth knowing.
        message: One plain sentence.
        path: The file.
        line: 1-based line number; None when the fault belongs to the whole file.
        byte_offset: 0-based offset of the fault in the file; None when it belongs to the whole file.
        pointer: JSON pointer of the faulty value inside the record.
        keyword: JSON Schema keyword that the value fails.
    """

    code: str
    severity: Severity
    message: str
    path: str
    line: int | None = None
    byte_offset: int | None = None
    pointer: str | None = None
    keyword: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; every key is always present."""
        return {
            "code": self.code,
            "severity": str(self.severity),
            "message": self.message,
            "path": self.path,
            "line": self.line,
            "byte_offset": self.byte_offset,
            "pointer": self.pointer,
            "keyword": self.keyword,
        }

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.severity}: {self.message} [{self.code}]"


@dataclass(frozen=True, slots=True)
class IssueCount:
    """How often one kind of issue occurred, whether or not each one was kept."""

    code: str
    severity: Severity
    count: int


class Event(NamedTuple):
    """One valid record; a named tuple, because a run has thousands and they are quickly made.

    Attributes:
        event: Event type, known or not.
        ts: Unix seconds.
        run_id: The run it belongs to.
        step: Optimizer step, or None where a step has no meaning.
        payload: Every other field, with non-finite values restored (NaN, inf) in their places.
        line: 1-based line number in its file.
        byte_offset: 0-based offset of the line in its file.
        seq: Position in the segment, when the emitter writes one.
        dropped_events: Events of this segment lost so far, as the emitter counted them.
        telemetry_faults: Internal faults the emitter survived so far.
        nonfinite: JSON pointers of the payload values that are NaN or infinite in this record.
    """

    event: str
    ts: float
    run_id: str
    step: int | None
    payload: Mapping[str, Any]
    line: int
    byte_offset: int
    seq: int | None = None
    dropped_events: int = 0
    telemetry_faults: int = 0
    nonfinite: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """One uninterrupted stretch of one run on one rank: a file, or a part of one that was appended to.

    Attributes:
        path: The file it was read from.
        index: Position in the run, from 0.
        rank: Process rank that wrote it; 0 unless the file name says otherwise.
        events: Its records in file order, nothing removed.
        meta: `run_start.meta`, empty when there is no run_start.
        resume_step: The step this segment resumed from, or None when it says nothing about it.
    """

    path: str
    index: int
    rank: int
    events: tuple[Event, ...]
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])
    resume_step: int | None = None

    @property
    def end(self) -> Event | None:
        """Its `run_end` record, or None."""
        return next((event for event in reversed(self.events) if event.event == "run_end"), None)

    def place(self, event: Event) -> Place:
        """Where one of its records stands."""
        return Place(event.step, self.path, event.line)

    @property
    def timed(self) -> bool:
        """Whether `ts` is time; of an imported log without times it only numbers the records."""
        return self.meta.get("ts_source") != "order"

    @property
    def duration_s(self) -> float | None:
        """Seconds from the first record to `run_end` (to the last record without one), never negative.

        None when the records have no times.
        """
        if not self.timed:
            return None
        end = self.end
        last = self.events[-1].ts if end is None else end.ts
        return max(0.0, last - self.events[0].ts)
