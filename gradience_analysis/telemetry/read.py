"""Bytes to events and issues: one pass, one bad line costs one line, every fault has its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, cast

from gradience_analysis.model import Event, Issue
from gradience_analysis.sources.decode import (
    Decoded,
    UndecodableError,
    decode,
    decode_strict,
    repeated_keys,
    repeats_a_key,
)
from gradience_analysis.sources.lines import BOM, MAX_LINE_BYTES, Line, iter_lines
from gradience_analysis.sources.opening import open_regular, read_fault, shown_name
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.names import did_you_mean
from gradience_analysis.telemetry.restore import restore_nonfinite
from gradience_analysis.telemetry.shape import fits, line_fits
from gradience_schema import EVENT_TYPES, SCHEMA_ID, Severity

_KNOWN: Final = frozenset(EVENT_TYPES)


class LineReader:
    """Reads single lines of one file; the faults go to `issues`.

    Args:
        path: The file; `-` is standard input.
        issues: Where the faults are recorded.
        refused: Called with each line that held something and gave no event.

    Attributes:
        path: The file; `-` is standard input.
        name: The file as issues name it.
        issues: Where the faults are recorded.
        lines: Lines seen so far, blank ones included.
        size: Bytes seen so far.
        events: Events given so far.
        rejected: Lines that held something and gave no event, so far.
    """

    def __init__(self, path: str | Path, issues: IssueLog, refused: Callable[[Line], object] | None = None) -> None:
        self.path = Path(path)
        self.name = shown_name(path)
        self.issues = issues
        self.lines = 0
        self.size = 0
        self.events = 0
        self.rejected = 0
        self._refused = refused
        self._saw_crlf = False

    def read_line(self, line: Line) -> Event | None:
        """The event in a line, or None; counted either way."""
        self.lines, self.size = line.number, line.offset + line.size + line.ended
        rejected = self.rejected
        event = self._read_line(line)
        self.events += event is not None
        if self._refused is not None and self.rejected > rejected:
            self._refused(line)
        return event

    def finish(self, fault: str | None) -> None:
        """Say what the whole file shows, after its last line.

        Args:
            fault: What cut its decompression short, or None.
        """
        if fault is not None:
            message = f"{fault}: what follows line {self.lines} is lost."
            self.issues.add(Issue("gzip_fault", Severity.ERROR, message, self.name))

    def _issue(
        self,
        line: Line,
        code: str,
        severity: Severity,
        message: str,
        *,
        at: int = 0,
        pointer: str | None = None,
        keyword: str | None = None,
    ) -> None:
        place = line.offset + at
        self.issues.add(Issue(code, severity, message, self.name, line.number, place, pointer, keyword))

    def _read_line(self, line: Line) -> Event | None:
        # Nearly every line ends here: strict JSON, of a known event, closed by a newline alone.
        whole = line.ended and line.size <= MAX_LINE_BYTES and line.data.endswith(b"}")
        if whole and line_fits(line.data):
            record = decode_strict(line.data)
            if record is not None:
                return self._typed(line, record)
        return self._read_unusual(line)

    def _typed(self, line: Line, record: dict[str, Any]) -> Event:
        """The event of a record that is known to have the form of one."""
        if line.data.count(b":") != len(record):
            self._check_keys(line, line.data, record)
        return self._event(line, record, ())

    def _check_keys(self, line: Line, data: bytes, record: dict[str, Any]) -> None:
        for key, pointer in repeated_keys(data) if repeats_a_key(data, record) else ():
            message = f"the key {key[:80]!r} stands more than once in an object; the last value was read."
            self._issue(line, "repeated_key", Severity.WARNING, message, pointer=pointer)

    def _read_unusual(self, line: Line) -> Event | None:
        if line.size > MAX_LINE_BYTES:
            message = f"is {line.size:,} bytes long; a record has at most {MAX_LINE_BYTES:,}. It was not read."
            self._issue(line, "line_too_long", Severity.ERROR, message)
            self.rejected += 1
            return None
        data = self._content(line)
        if not data.strip():
            self._issue(line, "blank_line", Severity.INFO, "is blank.")
            return None
        try:
            decoded = decode(data)
        except UndecodableError as error:
            self.rejected += 1
            self._report_undecodable(line, error, line.data.index(data))
            return None
        event = self._build(line, data, decoded)
        if event is None:
            self.rejected += 1
        elif not line.ended:
            message = "is complete, but the newline after it is missing: the writer was stopped at this point."
            self._issue(line, "no_final_newline", Severity.WARNING, message)
        return event

    def _content(self, line: Line) -> bytes:
        data = line.data
        if line.number == 1 and data.startswith(BOM):
            self._issue(
                line, "bom", Severity.WARNING, "starts with a UTF-8 byte order mark, which JSON does not allow."
            )
            data = data[len(BOM) :]
        if data.endswith(b"\r"):
            if not self._saw_crlf:
                self._saw_crlf = True
                self._issue(line, "crlf", Severity.INFO, "ends with CRLF; so may the lines after it. Read as LF.")
            data = data[:-1]
        return data

    def _report_undecodable(self, line: Line, error: UndecodableError, start: int) -> None:
        if line.ended:
            self._issue(line, error.code, Severity.ERROR, error.message, at=start + error.position)
        else:
            message = "is cut off in the middle: the writer was stopped while it wrote. One event is lost."
            self._issue(line, "torn_tail", Severity.WARNING, message, at=start + error.position)

    def _build(self, line: Line, data: bytes, decoded: Decoded) -> Event | None:
        record = decoded.value
        if not isinstance(record, dict):
            message = "holds a JSON value that is not an object."
            self._issue(line, "not_an_object", Severity.ERROR, message, pointer="", keyword="type")
            return None
        record = cast("dict[str, Any]", record)
        # Tolerances are reported for records that are read; a refused one has its own, worse issue.
        if not fits(record) and not (self._is_v1(line, record) and self._passes_schema(line, record)):
            return None
        if not _is_finite(record["ts"]):
            self._issue(line, "bad_value", Severity.ERROR, "/ts must be finite.", pointer="/ts", keyword="finite")
            return None
        for item in decoded.tolerated:
            self._issue(line, item.code, Severity.WARNING, item.message, pointer=item.pointer)
        self._check_keys(line, data, record)
        self._check_name(line, record["event"])
        return self._event(line, record, decoded.nonfinite)

    def _is_v1(self, line: Line, record: dict[str, Any]) -> bool:
        schema = record.get("schema")
        if schema == SCHEMA_ID:
            return True
        if isinstance(schema, str) and schema.startswith(SCHEMA_ID.rpartition("/")[0]):
            message = f"/schema is {schema[:80]!r}, a version that this release does not read (it reads v1)."
            self._issue(line, "unknown_schema", Severity.ERROR, message, pointer="/schema", keyword="const")
            return False
        return self._passes_schema(line, record)

    def _passes_schema(self, line: Line, record: dict[str, Any]) -> bool:
        from gradience_analysis.telemetry.explain import explain

        faults = explain(record)
        for fault in faults:
            self._issue(line, fault.code, Severity.ERROR, fault.message, pointer=fault.pointer, keyword=fault.keyword)
        return not faults

    def _check_name(self, line: Line, name: str) -> None:
        if name in _KNOWN:
            return
        meant = did_you_mean(name)
        hint = f" Did you mean {meant!r}?" if meant else ""
        message = f"event {name[:80]!r} is not one that v1 knows; its record is kept.{hint}"
        self._issue(line, "unknown_event", Severity.INFO, message, pointer="/event")

    def _event(self, line: Line, record: dict[str, Any], nonfinite: tuple[str, ...]) -> Event:
        marks = record.get("nonfinite")
        if marks:
            restored, unplaced = restore_nonfinite(record, marks)
            nonfinite += restored
            for pointer in unplaced:
                message = f"nonfinite names {pointer[:80]!r}, but there is no null at that place."
                self._issue(line, "nonfinite_unplaced", Severity.WARNING, message, pointer=pointer)
        take = record.pop
        take("schema")
        take("nonfinite", None)
        step, seq = take("step"), take("seq", None)
        return Event(
            event=take("event"),
            ts=float(take("ts")),
            run_id=take("run_id"),
            step=None if step is None else int(step),
            payload=record,
            line=line.number,
            byte_offset=line.offset,
            seq=None if seq is None else int(seq),
            dropped_events=int(take("dropped_events", 0)),
            telemetry_faults=int(take("telemetry_faults", 0)),
            nonfinite=nonfinite,
        )


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every double
        return False


class EventReader(LineReader):
    """Iterates over the valid events of one file, line by line; see `LineReader` for what it counts."""

    def __iter__(self) -> Iterator[Event]:
        """Events in file order.

        Raises:
            InputError: The path cannot be read, or is compressed in another way than gzip, or not UTF-8.
        """
        with open_regular(self.path) as file:
            for line in iter_lines(file, self.path):
                event = self.read_line(line)
                if event is not None:
                    yield event
                del event  # it may be large, and the next one too
            fault = read_fault(file)
        self.finish(fault)
