"""Lines of a foreign JSONL log to records: one bad line costs one line, and every fault has its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from gradience_analysis.errors import InputError
from gradience_analysis.importers.rows.stream import Place
from gradience_analysis.model import Issue
from gradience_analysis.sources.decode import UndecodableError, decode
from gradience_analysis.sources.lines import BOM, MAX_LINE_BYTES, Line, iter_lines
from gradience_analysis.sources.opening import open_regular, read_fault
from gradience_schema import Severity

_HEAD_LINES = 20
# A bare NaN is how these tools write one: telemetry/v1 keeps it in `nonfinite`, and nothing is amiss.
_ORDINARY = frozenset({"nonfinite_token"})


class Record(NamedTuple):
    """One line that holds an object.

    Attributes:
        fields: The object.
        at: Where it stands.
    """

    fields: dict[str, Any]
    at: Place


def looks_like(head: bytes, matches: Callable[[Mapping[str, Any]], bool]) -> bool:
    """Whether one of the first lines is a record of a layout, and none of them names a schema."""
    lines = head.split(b"\n")
    found = False
    # The last of them may be cut by the end of the head: then it is no record, and costs nothing.
    for line in lines[:_HEAD_LINES]:
        try:
            value = decode(line.strip()).value if line.strip() else None
        except UndecodableError:
            continue
        if isinstance(value, dict):
            record = cast("dict[str, Any]", value)
            if "schema" in record:
                return False
            found = found or matches(record)
    return found


def read_records(path: Path, matches: Callable[[Mapping[str, Any]], bool], title: str) -> Iterator[Record | Issue]:
    """The records of a layout in file order, and an issue for every line that holds none.

    Raises:
        InputError: The path cannot be read, or no line of it is a record of the layout.
    """
    any_found = False
    with open_regular(path) as file:
        for line in iter_lines(file, path):
            for item in _read_line(line, str(path)):
                if isinstance(item, Issue) or matches(item.fields):
                    any_found = any_found or isinstance(item, Record)
                    yield item
                else:
                    message = f"is not a record of {title}; it is left out."
                    yield _issue(line, str(path), "unknown_record", Severity.ERROR, message)
        fault = read_fault(file)
    if fault is not None:
        yield Issue("gzip_fault", Severity.ERROR, f"{fault}: what follows is lost.", str(path))
    if not any_found:
        raise InputError(str(path), f"holds no record of {title}.")


def _read_line(line: Line, path: str) -> Iterator[Record | Issue]:
    if line.size > MAX_LINE_BYTES:
        message = f"is {line.size:,} bytes long; at most {MAX_LINE_BYTES:,} are read. It was not read."
        yield _issue(line, path, "line_too_long", Severity.ERROR, message)
        return
    data = (line.data.removeprefix(BOM) if line.number == 1 else line.data).strip()
    if not data:
        return
    try:
        decoded = decode(data)
    except UndecodableError as error:
        if line.ended:
            yield _issue(line, path, error.code, Severity.ERROR, error.message, at=error.position)
        else:
            message = "is cut off in the middle: the writer was stopped while it wrote. One row is lost."
            yield _issue(line, path, "torn_tail", Severity.WARNING, message, at=error.position)
        return
    value: object = decoded.value
    if not isinstance(value, dict):
        message = "holds a JSON value that is not an object."
        yield _issue(line, path, "not_an_object", Severity.ERROR, message)
        return
    for item in decoded.tolerated:
        if item.code not in _ORDINARY:
            yield _issue(line, path, item.code, Severity.WARNING, item.message, pointer=item.pointer)
    yield Record(cast("dict[str, Any]", value), Place(line.number, line.offset))


def _issue(
    line: Line, path: str, code: str, severity: Severity, message: str, *, at: int = 0, pointer: str | None = None
) -> Issue:
    return Issue(code, severity, message, path, line.number, line.offset + at, pointer)
