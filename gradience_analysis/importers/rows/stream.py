"""`RunStream`: the envelope of imported events: run id, order, segments, and the issues beside them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gradience_analysis.importers.rows.values import as_step, fit, nonfinite_pointers, read_strings
from gradience_analysis.model import Event, Issue
from gradience_analysis.model.pointer import pointer_part
from gradience_schema import Severity

_NAMESPACE = uuid.UUID("6f1f2a3e-5d0c-5b7e-9a64-0f6f5a1b7c2d")
_NAMED = 5


class Place(NamedTuple):
    """Where a row stands in its file.

    Attributes:
        line: 1-based line, or row of a document over many lines.
        offset: Byte offset of the line; 0 in a document.
        pointer: JSON pointer of the row in a document; empty for a line.
    """

    line: int
    offset: int = 0
    pointer: str = ""


START = Place(1)


def run_id_of(path: Path) -> str:
    """A UUID made of the resolved path: it stays while the file grows, and no other file has it."""
    return str(uuid.uuid5(_NAMESPACE, os.path.realpath(path)))


class RunStream:
    """Makes the events of one file; the importer says what they are.

    Args:
        path: The file.
        source_format: Name of the importer.
        framework: What trained, for `meta.framework`; None when the file does not tell.
        timed: Whether the file holds times; without them `ts` is the 0-based order of the events.
    """

    def __init__(self, path: Path, *, source_format: str, framework: str | None, timed: bool = False) -> None:
        self._path = str(path)
        self._run_id = run_id_of(path)
        self._config: Mapping[str, Any] = {}
        self._meta: dict[str, Any] = {
            **({"framework": framework} if framework else {}),
            "source_format": source_format,
            "source_file": path.name,
            "ts_source": "file" if timed else "order",
        }
        self._timed = timed
        self._order = 0
        self._seq = 0
        self._segment = 0
        self._last_step = -1
        self._last_ts = 0.0
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the segment has its `run_end`."""
        return self._ended

    def issue(
        self, code: str, severity: Severity, message: str, at: Place | None = None, pointer: str | None = None
    ) -> Issue:
        """A fault of the file, at a row or (without a place) of the whole file."""
        if at is None:
            return Issue(code, severity, message, self._path, pointer=pointer)
        if at.pointer:
            return Issue(code, severity, message, self._path, pointer=at.pointer + (pointer or ""))
        return Issue(code, severity, message, self._path, at.line, at.offset, pointer)

    def begin(
        self,
        config: Mapping[str, Any],
        meta: Mapping[str, Any] | None = None,
        *,
        at: Place = START,
        ts: float | None = None,
    ) -> Iterator[Event | Issue]:
        """The first `run_start`, and a word on times when there are none."""
        self._config = config
        self._meta |= meta or {}
        yield self._start(at, ts)
        if not self._timed:
            message = "holds no times: ts is the order of the records, and no duration or speed can be taken from it."
            yield self.issue("no_timestamps", Severity.INFO, message)

    def row(
        self, row: Mapping[str, Any], at: Place, *, step_name: str = "step", numeric: bool = True
    ) -> tuple[int | None, dict[str, Any], list[Issue]]:
        """The step of a row, its other fields, and what is to be said about both.

        Args:
            row: Fields of any names.
            at: Where it stands.
            step_name: The field that holds the step.
            numeric: Whether the row is one of numbers, so that strings that hold one are read as numbers.
        """
        fields, strings = read_strings(row) if numeric else (dict(row), [])
        issues = [self._strings(strings, at)] if strings else []
        raw = fields.pop(step_name, None)
        step = as_step(raw)
        if step is None:
            what = "names no step" if raw is None else f"has a {step_name} that is no step: {str(raw)[:80]!r}"
            issues.append(
                self.issue("no_step", Severity.WARNING, f"{what}; step is null.", at, f"/{pointer_part(step_name)}")
            )
            if raw is not None:
                fields[step_name] = raw
        return step, fields, issues

    def onward(self, step: int | None, at: Place, *, trains: bool, ts: float | None = None) -> Iterator[Event | Issue]:
        """Before a row: a new segment where `step` jumps back, or where training goes on after its end."""
        back = step is not None and step < self._last_step
        again = trains and self._ended
        if back or again:
            self._segment += 1
            self._seq = 0
            why = f"step goes back from {self._last_step} to {step}" if back else "training goes on after its end"
            message = f"{why}: read as segment {self._segment} of the run."
            yield self._start(at, ts)
            yield self.issue("new_segment", Severity.INFO, message, at)
        if step is not None:
            self._last_step = step

    def event(
        self,
        name: str,
        step: int | None,
        fields: Mapping[str, Any],
        at: Place,
        *,
        made: Mapping[str, Any] | None = None,
        ts: float | None = None,
    ) -> Iterator[Event | Issue]:
        """One event, after a word on each field that does not fit the schema.

        Args:
            name: Event type.
            step: Optimizer step.
            fields: Fields of the row.
            at: Where the row stands.
            made: Fields that the schema requires and the importer made.
            ts: Unix time, of a file that holds times.
        """
        fitted = fit(name, fields, made)
        for field in fitted.misfits:
            value = str(fields[field])[:80]
            message = f"{field} is {value!r}, which v1 does not take there; kept as x_{field}."
            yield self.issue("unfit_value", Severity.WARNING, message, at, f"/{pointer_part(field)}")
        if name == "run_end":
            self._ended = True
        yield self._envelope(name, step, fitted.payload, at, ts)

    def _start(self, at: Place, ts: float | None) -> Event:
        self._last_step = -1
        self._ended = False
        meta = dict(self._meta)
        if self._segment:
            meta |= {"segment": self._segment, "parent_segment": self._segment - 1}
        return self._envelope("run_start", None, {"config": dict(self._config), "meta": meta}, at, ts)

    def _envelope(self, name: str, step: int | None, payload: Mapping[str, Any], at: Place, ts: float | None) -> Event:
        if self._timed:
            self._last_ts = self._last_ts if ts is None else ts
        event = Event(
            event=name,
            ts=self._last_ts if self._timed else float(self._order),
            run_id=self._run_id,
            step=step,
            payload=payload,
            line=at.line,
            byte_offset=at.offset,
            seq=self._seq,
            nonfinite=nonfinite_pointers(payload),
        )
        self._order += 1
        self._seq += 1
        return event

    def _strings(self, names: list[str], at: Place) -> Issue:
        shown = ", ".join(name[:80] for name in names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        message = f"numbers written as strings, read as numbers: {shown}{more}."
        return self.issue("string_number", Severity.WARNING, message, at, f"/{pointer_part(names[0])}")
