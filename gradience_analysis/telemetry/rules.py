"""The rules of v1 that span lines. Each sees every event of one file in order and has its own code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias, cast

from gradience_analysis.model import Event
from gradience_analysis.model.pointer import pointer_part
from gradience_analysis.telemetry.batches import Rows
from gradience_analysis.telemetry.rowshape import RowShape
from gradience_schema import Severity

_AFTER_RUN_END = frozenset({"run_start", "train_step", "run_end"})
_MAX_BACK_S = 1.0
# A file in which every record has names of its own must not fill the memory. Nor must long names: what was seen is kept
# as hashes, of 64 bits, since names may be as long as lines.
_MAX_FORMS = 1_000
_MAX_NAMES = 100_000
_NUMBER = re.compile(r"\s*[+-]?(\d{1,400}\.?\d{0,400}([eE][+-]?\d{1,9})?|nan|inf(inity)?)\s*$", re.IGNORECASE)
_NUMERIC = frozenset({"number", "array", "null"})
_NAMES: Mapping[type[Any], str] = {
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


Breach: TypeAlias = tuple[str, str | None]


class Rule(Protocol):
    """A rule across lines: state of one file, fed event by event."""

    @property
    def code(self) -> str:
        """Issue code."""
        ...

    @property
    def severity(self) -> Severity:
        """How much a breach matters."""
        ...

    @property
    def sees(self) -> frozenset[str] | None:
        """Event types it is fed with; None for all."""
        ...

    def breaches(self, event: Event, rejected: int) -> Iterable[Breach]:
        """Sentences (each with a JSON pointer or None) about what this event breaks.

        Args:
            event: The next event of the file.
            rejected: Lines of the file that were refused before it.
        """
        ...

    def passes(self, rows: Rows, rejected: int) -> bool:
        """Whether none of these `train_step` rows breaks it; if so, they count as seen.

        False says nothing: the rows then have to be shown to `breaches` one by one, and until then were not seen.
        """
        ...


class FirstIsRunStart:
    """The first record of a segment is `run_start`."""

    code = "no_run_start"
    severity = Severity.ERROR
    sees = None

    def __init__(self) -> None:
        self._first = True

    def breaches(self, event: Event, rejected: int) -> Iterable[Breach]:
        """See `Rule`; a refused first line is not blamed twice."""
        first, self._first = self._first, False
        if not first or rejected or event.event == "run_start":
            return ()
        return ((f"the first record is {event.event[:80]!r}, not run_start.", "/event"),)

    def passes(self, rows: Rows, rejected: int) -> bool:
        """See `Rule`."""
        del rows, rejected
        return not self._first


class OneRunStart:
    """A segment has one `run_start`; another before a run_end is a run that was appended to."""

    code = "second_run_start"
    severity = Severity.WARNING
    sees = frozenset({"run_start", "run_end"})

    def __init__(self) -> None:
        self._started = False
        self._ended = False

    def breaches(self, event: Event, rejected: int) -> Iterable[Breach]:  # noqa: ARG002
        """See `Rule`; after a run_end it is `EndIsLast` that speaks."""
        if event.event == "run_start" and self._started and not self._ended:
            yield "a second run_start: read as a new segment of its own.", "/event"
        self._started = self._started or event.event == "run_start"
        self._ended = self._ended or event.event == "run_end"

    def passes(self, rows: Rows, rejected: int) -> bool:
        """See `Rule`; rows of `train_step` are no concern of it."""
        del rows, rejected
        return True


class EndIsLast:
    """`run_end` comes once and ends training; evaluations, audits and alerts may follow it."""

    code = "after_run_end"
    severity = Severity.ERROR
    sees = _AFTER_RUN_END

    def __init__(self) -> None:
        self._ended = False

    def breaches(self, event: Event, rejected: int) -> Iterable[Breach]:  # noqa: ARG002
        """See `Rule`."""
        ended, self._ended = self._ended, self._ended or event.event == "run_end"
        return ((f"{event.event} after run_end.", "/event"),) if ended else ()

    def passes(self, rows: Rows, rejected: int) -> bool:
        """See `Rule`."""
        del rows, rejected
        return not self._ended


class OneRunId:
    """A segment belongs to one run."""

    code = "several_run_ids"
    severity = Severity.WARNING
    sees = None

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def breaches(self, event: Event, rejected: int) -> Iterable[Breach]:  # noqa: ARG002
        """See `Rule`; each further run id is reported once."""
        seen = hash(event.run_id)
        if seen in self._seen:
            return ()
        others = bool(self._seen)
        if len(self._seen) < _MAX_NAMES:
            self._seen.add(seen)
        return ((f"run_id {event.run_id[:80]!r} in a segment of another run.", "/run_id"),) if others else ()

    def passes(self, rows: Rows, rejected: int) -> bool:
        """See `Rule`."""
        del rejected
        return self._seen.issuperset(map(hash, rows.run_ids))


class ClockRunsForward:
    """`ts` does not go back by more than a second."""

    code = "ts_backwards"
    severity = Severity.WARNING
    sees = None

    def __init__(self) -> None:
        self._last = float("-inf")

    def breaches(self, event: Event, rejected: int) -> Iterable[Breach]:  # noqa: ARG002
        """See `Rule`."""
        back, self._last = self._last - event.ts, event.ts
        return ((f"ts goes back by {back:.1f} s.", "/ts"),) if back > _MAX_BACK_S else ()

    def passes(self, rows: Rows, rejected: int) -> bool:
        """See `Rule`; strictly, so that sorting can decide."""
        del rejected
        stamps = rows.stamps
        if stamps[0] < self._last or sorted(stamps) != stamps:
            return False
        self._last = stamps[-1]
        return True


class StepRunsForward:
    """`step` does not decrease within a segment, as long as it trains."""

    code = "step_backwards"
    severity = Severity.WARNING
    sees = None

    def __init__(self) -> None:
        self._last = -1
        self._ended = False

    def breaches(self, event: Event, rejected: int) -> Iterable[Breach]:  # noqa: ARG002
        """See `Rule`; an audit of an earlier checkpoint after run_end may name its own step."""
        if event.event == "run_start":
            self._last = -1
        self._ended = self._ended or event.event == "run_end"
        if event.step is None or self._ended:
            return ()
        last, self._last = self._last, event.step
        if event.step >= last:
            return ()
        return ((f"step goes back from {last} to {event.step}: the run was resumed or restarted here.", "/step"),)

    def passes(self, rows: Rows, rejected: int) -> bool:
        """See `Rule`."""
        del rejected
        steps = rows.steps
        if self._ended:
            return True
        if steps[0] < self._last or not rows.steps_rise:
            return False
        self._last = steps[-1]
        return True


class SequenceHasNoGap:
    """`seq` counts 0, 1, 2 … within a segment.

    Attributes:
        missing: Events that gaps show to be lost, besides the refused lines that stand in a gap.
    """

    code = "seq_gap"
    severity = Severity.ERROR
    sees = None

    def __init__(self) -> None:
        self.missing = 0
        self._next = 0
        self._rejected = 0

    def breaches(self, event: Event, rejected: int) -> Iterable[Breach]:
        """See `Rule`; a refused line explains one missing number."""
        if event.seq is None:
            return ()
        explained, self._rejected = rejected - self._rejected, rejected
        due = 0 if event.seq == 0 and event.event == "run_start" else self._next
        self._next = event.seq + 1
        if event.seq < due:
            return ((f"seq {event.seq} again, where {due} was due.", "/seq"),)
        lost = event.seq - due - explained
        if lost <= 0:
            return ()
        self.missing += lost
        return ((f"seq jumps from {due - 1} to {event.seq}: {lost} lost.", "/seq"),)

    def passes(self, rows: Rows, rejected: int) -> bool:
        """See `Rule`."""
        extras = dict(rows.shape.extras)
        if "seq" not in extras:
            return True
        # Of numbers that may be absent, the careful way decides.
        if extras["seq"]:
            return False
        first = rows.records[0].seq
        explained = rejected - self._rejected
        if not self._next <= first <= self._next + explained:
            return False
        if [record.seq for record in rows.records] != list(range(first, first + len(rows.records))):
            return False
        self._next, self._rejected = first + len(rows.records), rejected
        return True


class MetricKeepsItsType:
    """A metric keeps its JSON type; null stands for a non-finite number and fits any."""

    code = "metric_type_changed"
    severity = Severity.WARNING
    sees = frozenset({"train_step", "eval", "metrics"})

    def __init__(self) -> None:
        self._types: dict[int, str] = {}
        # Records of a form that was seen before have nothing new to say, and nearly all are of one.
        self._forms: set[int] = set()
        self._steady: RowShape | None = None

    def breaches(self, event: Event, rejected: int) -> Iterable[Breach]:  # noqa: ARG002
        """See `Rule`."""
        owner, values, at = "", event.payload, ""
        if event.event != "train_step":
            owner = event.payload["split" if event.event == "eval" else "kind"]
            values, at = event.payload["metrics"], "/metrics"
        form = hash((event.event, owner, *values, *map(type, values.values())))
        if form in self._forms:
            return ()
        changed = list(self._changed(event.event, owner, values, at))
        if not changed and len(self._forms) < _MAX_FORMS:
            self._forms.add(form)
        return changed

    def _changed(self, event: str, owner: str, values: Mapping[str, Any], at: str) -> Iterator[Breach]:
        for name, value in values.items():
            kind = _NAMES.get(cast("type[Any]", type(value)))
            if kind is None:
                continue
            key = hash((event, owner, name))
            first = self._types.get(key, kind) if len(self._types) >= _MAX_NAMES else self._types.setdefault(key, kind)
            if kind != first and {kind, first} != {"number", "array"}:
                yield f"{name[:80]} was a {first} before and is a {kind} here.", f"{at}/{pointer_part(name)}"

    def passes(self, rows: Rows, rejected: int) -> bool:
        """See `Rule`."""
        del rejected
        if rows.shape is self._steady:
            return True
        for field in rows.shape.fields:
            key = hash(("train_step", "", field.name))
            kinds = field.kinds - {"null"}
            first = self._types.get(key) or min(kinds, default="null")
            if not field.steady or not kinds <= (_NUMERIC if first in _NUMERIC else {first}):
                return False
            # A field that every row has was seen; of one that some lack, an event was the first to show it.
            if kinds and not field.optional and len(self._types) < _MAX_NAMES:
                self._types.setdefault(key, first)
        self._steady = rows.shape
        return True


class NumberIsNoString:
    """A metric that is a number is written as one; a string that holds a number stays a string, and is reported."""

    code = "number_in_string"
    severity = Severity.WARNING
    sees = frozenset({"train_step", "eval", "metrics"})

    def __init__(self) -> None:
        self._reported: set[int] = set()

    def breaches(self, event: Event, rejected: int) -> Iterable[Breach]:  # noqa: ARG002
        """See `Rule`; each field is reported once."""
        inside = event.event != "train_step"
        values: Mapping[str, Any] = event.payload["metrics"] if inside else event.payload
        for name, value in values.items():
            if isinstance(value, str) and _NUMBER.match(value):
                pointer = f"{'/metrics' if inside else ''}/{pointer_part(name)}"
                if hash(pointer) not in self._reported and len(self._reported) < _MAX_NAMES:
                    self._reported.add(hash(pointer))
                    yield f"{name[:80]} is the string {value[:40]!r}, not a number; it is kept as text.", pointer

    def passes(self, rows: Rows, rejected: int) -> bool:
        """See `Rule`; only rows with strings in them are looked at one by one."""
        del rejected
        return not rows.shape.texts
