"""The fast way through a file: rows of `train_step` in blocks, every other event by itself, in file order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import msgspec

from gradience_analysis.model import Event
from gradience_analysis.sources.decode import decode_strict
from gradience_analysis.sources.lines import Block, Line, iter_blocks
from gradience_analysis.sources.opening import open_regular, read_fault
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.read import LineReader
from gradience_analysis.telemetry.rowshape import MAX_FIELDS, RowShape

# A file whose rows keep changing their form is read line by line from then on.
_MAX_SHAPES: Final = 64
_REFUSED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True)
class Rows:
    """`train_step` records of one shape on consecutive lines.

    Attributes:
        shape: What fields they have.
        records: Their values, as structs of `shape.row_type`.
        texts: The lines they stand in.
        number: Number of the first line, 1-based.
        offset: 0-based byte offset of the first line.
    """

    shape: RowShape
    records: Sequence[Any]
    texts: Sequence[bytes]
    number: int
    offset: int

    @cached_property
    def run_ids(self) -> frozenset[str]:
        """Runs they belong to, nearly always one."""
        return frozenset([record.run_id for record in self.records])

    @cached_property
    def steps(self) -> list[int]:
        """Their steps."""
        return [record.step for record in self.records]

    @cached_property
    def stamps(self) -> list[float]:
        """Their times."""
        return [record.ts for record in self.records]

    @cached_property
    def steps_rise(self) -> bool:
        """Whether no step is lower than the one before."""
        return sorted(self.steps) == self.steps

    def lines(self) -> Iterator[Line]:
        """The lines they stand in, with their places."""
        offset = self.offset
        for number, data in enumerate(self.texts, self.number):
            yield Line(number, offset, data, ended=True, size=len(data))
            offset += len(data) + 1

    def events(self) -> Iterator[Event]:
        """The same records as events."""
        for record, line in zip(self.records, self.lines(), strict=True):
            yield self.shape.event(record, line.number, line.offset)


Batch: TypeAlias = Rows | Event


class BatchReader(LineReader):
    """Iterates over the valid events of one file; accepts, refuses and reports exactly what `EventReader` does.

    A block of lines is decoded in one call as long as nothing in it is out of the ordinary. What is refused there is
    read again line by line, so that a bad line costs time, but never its neighbours.
    """

    def __init__(self, path: str | Path, issues: IssueLog, refused: Callable[[Line], object] | None = None) -> None:
        super().__init__(path, issues, refused)
        self._shape: RowShape | None = None
        self._shapes = 0
        self._smooth = True

    def __iter__(self) -> Iterator[Batch]:
        """Rows and events in file order.

        Raises:
            InputError: As `EventReader`.
            ForeignLayoutError: As `EventReader`.
        """
        with open_regular(self.path) as file:
            for block in iter_blocks(file, self.path):
                yield from self._read_block(block)
                if block.last is not None:
                    event = self.read_line(block.last)
                    if event is not None:
                        yield event
            fault = read_fault(file)
        self.finish(fault)

    def _read_block(self, block: Block) -> Iterator[Batch]:
        texts, number, offset = block.texts, block.number, block.offset
        # msgspec takes a carriage return for white space; it has to be reported.
        plain = b"\r" not in block.data
        while texts:
            items = _decode_all(texts, self._shape) if plain and self._smooth else None
            if items is not None:
                yield from self._ordinary(items, block, texts, number, offset)
                return
            used = yield from self._one_by_one(texts, number, offset)
            number, offset = number + used, offset + _size(texts[:used])
            texts = texts[used:]

    def _ordinary(
        self, items: list[Any], block: Block, texts: list[bytes], number: int, offset: int
    ) -> Iterator[Batch]:
        """What a block holds in which every line is the row or the event that it seems to be."""
        shape = cast("RowShape", self._shape)
        row_type = shape.row_type
        others = [place for place, item in enumerate(items) if type(item) is not row_type]
        records = [item for item in items if type(item) is row_type] if others else items
        colons = sum(map(_colons, texts)) if len(texts) < len(block.texts) else block.data.count(b":")
        # One count of colons for the whole block proves nearly always that none of its rows repeats a key.
        clean = shape.colons(records) == (colons - sum(_colons(texts[place]) for place in others), 0)
        start = 0
        for place in (*others, len(items)):
            if place > start:
                rows = Rows(shape, items[start:place], texts[start:place], number + start, offset)
                yield self._rows(rows, clean=clean)
                offset += _size(texts[start:place])
            if place < len(items):
                event = self.read_line(_line(texts[place], number + place, offset))
                offset += len(texts[place]) + 1
                if event is not None:
                    yield event
            start = place + 1
        self.lines, self.size = number + len(items) - 1, offset

    def _one_by_one(self, texts: list[bytes], number: int, offset: int) -> Generator[Batch, None, int]:
        """Read on until a line changes the shape of the rows; the value is how many lines were used."""
        shape = self._shape
        row_type = None if shape is None else shape.row_type
        decode = _nothing if shape is None else shape.decoder.decode
        records: list[Any] = []
        start = used = 0
        refused = self.rejected
        for used, data in enumerate(texts, 1):
            try:
                item = decode(data) if data.endswith(b"}") else None
            except _REFUSED:
                item = None
            if item is not None and type(item) is row_type:
                records.append(item)
                continue
            if shape is not None and records:
                yield self._rows(Rows(shape, records, texts[start : used - 1], number + start, offset))
                offset += _size(texts[start : used - 1])
            start, records = used, []
            event = self.read_line(_line(data, number + used - 1, offset))
            offset += len(data) + 1
            if event is not None:
                yield event
                if self._learn(event):
                    break
        if shape is not None and records:
            yield self._rows(Rows(shape, records, texts[start:used], number + start, offset))
            offset += _size(texts[start:used])
        self._smooth = self.rejected == refused
        self.lines, self.size = number + used - 1, offset
        return used

    def _rows(self, rows: Rows, *, clean: bool = False) -> Rows:
        """Count them, and report those that repeat a key: they have more colons than a row with these fields has."""
        self.events += len(rows.records)
        # A colon may also be written as an escape in a string; then each row has to be looked at.
        if not clean and rows.shape.colons(rows.records) != (sum(map(_colons, rows.texts)), 0):
            for record, line in zip(rows.records, rows.lines(), strict=True):
                expected, in_strings = rows.shape.colons((record,))
                if line.data.count(b":") != expected + in_strings or (in_strings and b"\\u003" in line.data):
                    self._check_keys(line, line.data, decode_strict(line.data))
        return rows

    def _learn(self, event: Event) -> bool:
        """Let the shape hold this record too; whether that changed it."""
        if event.event != "train_step" or self._shapes >= _MAX_SHAPES:
            return False
        shape = RowShape.of(event)
        if shape is None:
            return False
        wider = shape if self._shape is None else self._shape.widened(shape)
        if wider == self._shape or len(wider.fields) > MAX_FIELDS:
            return False
        self._shape = wider
        self._shapes += 1
        return True


def _nothing(data: bytes) -> None:
    """Stands for a decoder as long as no row was seen."""
    del data


def _decode_all(texts: list[bytes], shape: RowShape | None) -> list[Any] | None:
    """One item a line; None when any line is out of the ordinary."""
    if shape is None:
        return None
    decode = shape.decoder.decode
    try:
        return [decode(text) for text in texts]
    except _REFUSED:
        return None


def _colons(text: bytes) -> int:
    return text.count(b":")


def _line(data: bytes, number: int, offset: int) -> Line:
    return Line(number, offset, data, ended=True, size=len(data))


def _size(texts: Sequence[bytes]) -> int:
    """Bytes of these lines in the file, newlines included."""
    return sum(map(len, texts)) + len(texts)
