"""Collects `train_step` records, in blocks or one by one, into the `steps` table."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, Final, cast

import numpy as np
from msgspec import UNSET

from gradience_analysis.model import Event
from gradience_analysis.tables.arrow import pa, pc
from gradience_analysis.tables.columns import TEXT, column, in_layout, joined
from gradience_analysis.tables.layout import KEYS, STEPS
from gradience_analysis.tables.parts import Part
from gradience_analysis.telemetry.batches import Rows
from gradience_analysis.telemetry.rowshape import RowShape

# Enough rows that making an Arrow array costs little, few enough that their values are still in the cache.
_FLUSH_ROWS: Final = 1 << 11
_FEW: Final = 16
_EXACT: Final = 2.0**53
_PIECE_BYTES: Final = 1 << 30
_CODES: Final = {np.int64: "q", np.float64: "d"}
_TAKEN: Final = frozenset({*(name for name, _ in KEYS), "segment"})
_FIXED: Final = {field.name: field.type for field in STEPS}


class _Chunks:
    """The arrays of one column; where nothing was added, it is null."""

    def __init__(self) -> None:
        self._arrays: list[Any] = []
        self._rows = 0

    def add(self, array: Any, start: int) -> None:
        """Add the array of the rows from `start` on."""
        self.filled(start).append(array)
        self._rows = start + len(array)

    def filled(self, rows: int) -> list[Any]:
        """The arrays, up to that many rows."""
        if rows > self._rows:
            self._arrays.append(pa.nulls(rows - self._rows))
            self._rows = rows
        return self._arrays


class StepRows:
    """The rows of one file, or of several one after the other."""

    def __init__(self) -> None:
        # Records wait, of one shape or as single events, until there are enough of them for an array to be worth it.
        self._records: list[Any] = []
        self._shape: RowShape | None = None
        self._events: list[Event] = []
        self._chunks: dict[str, _Chunks] = {}
        self._texts: dict[str, _Chunks] = {}
        self._flushed = 0
        # One entry for each stretch of consecutive lines: rows, first line, part, run, file.
        self._spans: list[tuple[int, int, int, str, str]] = []

    def add_rows(self, rows: Rows, part: Part, path: str) -> None:
        """Add rows that belong to one part of a file."""
        number = len(rows.records)
        if number < _FEW and self._events:
            self._events.extend(rows.events())
        else:
            if self._events or rows.shape != self._shape or len(self._records) + number > _FLUSH_ROWS:
                self._flush()
            self._shape = rows.shape
            self._records.extend(rows.records)
        self._spans.append((number, rows.number, part.part, part.run_id, path))

    def add_event(self, event: Event, part: Part, path: str) -> None:
        """Add a single record; what is no scalar has no column."""
        if self._records or len(self._events) >= _FLUSH_ROWS:
            self._flush()
        self._events.append(event)
        self._spans.append((1, event.line, part.part, part.run_id, path))

    def _flush(self) -> None:
        number = len(self._records) or len(self._events)
        if self._records and self._shape is not None:
            columns = _columns_of_rows(self._records, self._shape)
        else:
            columns = _columns_of_events(self._events)
        for name, (values, mixed) in columns.items():
            array, text = column(values, _FIXED.get(name), mixed=mixed)
            self._chunks.setdefault(name, _Chunks()).add(array, self._flushed)
            if text is not None:
                self._texts.setdefault(name, _Chunks()).add(text, self._flushed)
        self._flushed += number
        self._records, self._events = [], []

    def table(self) -> Any:
        """The `steps` table; nothing can be added after it."""
        self._flush()
        columns = self._key_columns()
        found = {name: joined(chunks.filled(self._flushed), _FIXED.get(name)) for name, chunks in self._chunks.items()}
        texts = {name: joined(chunks.filled(self._flushed), pa.string())[0] for name, chunks in self._texts.items()}
        columns |= {name: array for name, (array, _) in found.items()}
        for name, (_, text) in found.items():
            beside = [one for one in (text, texts.get(name)) if one is not None]
            if beside:
                columns[name + TEXT] = pc.coalesce(*beside)
        return in_layout(columns, self._flushed)

    def _key_columns(self) -> dict[str, Any]:
        if not self._spans:
            return {}
        numbers, lines, parts, run_ids, paths = zip(*self._spans, strict=True)
        counts = np.array(numbers)
        # Line numbers rise by one within a stretch: count through, then shift each stretch to its first line.
        starts = np.cumsum(counts) - counts
        line = np.arange(self._flushed) + np.repeat(np.array(lines) - starts, counts)
        return {
            "path": _repeated(paths, numbers),
            "part": pa.array(np.repeat(np.array(parts, dtype=np.int32), counts)),
            "line": pa.array(line),
            "run_id": _repeated(run_ids, numbers),
        }


def _repeated(texts: Sequence[str], counts: Sequence[int]) -> Any:
    """Each text as often as its count says, in pieces: one array holds no more than 2 GiB of text."""
    pieces: list[Any] = []
    held: list[Any] = []
    size = 0
    for text, group in groupby(zip(texts, counts, strict=True), key=itemgetter(0)):
        rows, width = sum(number for _, number in group), max(1, len(text.encode()))
        while rows:
            number = min(rows, max(1, _PIECE_BYTES // width))
            if held and size + number * width > _PIECE_BYTES:
                pieces.append(pa.concat_arrays(held))
                held, size = [], 0
            held.append(pa.repeat(pa.scalar(text, pa.string()), number))
            rows, size = rows - number, size + number * width
    return pa.chunked_array([*pieces, pa.concat_arrays(held)], pa.string())


def _columns_of_rows(records: list[Any], shape: RowShape) -> dict[str, tuple[Sequence[Any], bool]]:
    """The values of each column, and whether they may be of several JSON types."""
    columns: dict[str, tuple[Sequence[Any], bool]] = {
        "step": (_numbers(records, "step", np.int64), False),
        "ts": (_numbers(records, "ts", np.float64), False),
    }
    for field in shape.fields:
        attribute = shape.attributes[field.name]
        if "array" in field.kinds:
            columns |= {name: (rates, False) for name, rates in _rates(_values(records, attribute))}
        elif field.name in _FIXED:
            columns[field.name] = (_numbers(records, attribute, np.float64), False)
        else:
            columns[_column_name(field.name)] = (_values(records, attribute), len(field.kinds - {"null"}) > 1)
    return columns


def _numbers(records: list[Any], attribute: str, kind: Any) -> Sequence[Any]:
    """Values of an attribute as numbers of one type, where all of them have a place in it; else as they are."""
    try:
        # Several times as fast as numpy's own way from Python numbers to an array of them.
        packed = struct.pack(f"={len(records)}{_CODES[kind]}", *map(attrgetter(attribute), records))
    except (struct.error, OverflowError):  # an absent value, null, or an integer beyond 64 bits
        return _values(records, attribute)
    numbers: Any = np.frombuffer(packed, kind)
    # Beyond 2**53 a double may be an integer that was rounded to it.
    return numbers if kind is np.int64 or np.abs(numbers).max() < _EXACT else _values(records, attribute)


def _values(records: list[Any], attribute: str) -> list[Any]:
    values: list[Any] = list(map(attrgetter(attribute), records))
    return [None if value is UNSET else value for value in values] if UNSET in values else values


def _columns_of_events(events: list[Event]) -> dict[str, tuple[Sequence[Any], bool]]:
    names = dict.fromkeys(
        name for event in events for name, value in event.payload.items() if not isinstance(value, dict | list)
    )
    columns: dict[str, tuple[Sequence[Any], bool]] = {
        "step": ([event.step for event in events], False),
        "ts": ([event.ts for event in events], False),
    }
    for name in names:
        values = [event.payload.get(name) for event in events]
        scalars = [None if isinstance(value, dict | list) else value for value in values]
        columns[_column_name(name)] = (scalars, True)
    return columns | {name: (rates, True) for name, rates in _rates([event.payload.get("lr") for event in events])}


def _rates(values: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """A column for each parameter group; a single rate counts as a list of one."""
    lists = [cast("list[Any]", value) if isinstance(value, list) else [value] for value in values]
    for group in range(max(map(len, lists), default=0)):
        yield f"lr_{group}" if group else "lr", [rates[group] if group < len(rates) else None for rates in lists]


def _column_name(name: str) -> str:
    """The field's name; moved aside, as the emitter does it, when it is that of a column with another meaning."""
    return f"x_{name}" if name in _TAKEN or name.endswith(TEXT) else name
