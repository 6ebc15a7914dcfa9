"""The fast way through a file: rows of `train_step` in blocks, every other event by itself, in file order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, count
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
        records: Their values, as structs with an attribute for each of `shape.attributes`.
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
        offsets = accumulate((len(text) + 1 for text in self.texts), initial=self.offset)
        return self.shape.events(self.records, zip(count(self.number), offsets, strict=False))


Batch: TypeAlias = Rows | Event


class BatchReader(LineReader):
    """Iterates over the valid events of one file; accepts, refuses and reports exactly what `EventReader` does.

    Line after line is decoded without a look at it, as long as it is a row of the expected shape. The first that is
    not ends the stretch and is read with care; then it goes on behind it, so that a bad line costs only time.

    Args:
        path: The file; `-` is standard input.
        issues: Where the faults are recorded.
        refused: Called with each line that held something and gave no event.
        expected: The shape that rows had in another file and may have in this one too.
    """

    def __init__(
        self,
        path: str | Path,
        issues: IssueLog,
        refused: Callable[[Line], object] | None = None,
        *,
        expected: RowShape | None = None,
    ) -> None:
        super().__init__(path, issues, refused)
        self._shape = expected
        self._guessed = expected is not None
        self._shapes = 0

    @property
    def usual_shape(self) -> RowShape | None:
        """The shape that all rows had so far; None when they differ, or there are none."""
        return None if self._shape is None or self._shape.options else self._shape

    def __iter__(self) -> Iterator[Batch]:
        """Rows and events in file order.

        Raises:
            InputError: As `EventReader`.
        """
        with open_regular(self.path) as file:
            for block in iter_blocks(file, self.path):
                yield from self._read_block(block)
                if block.last is not None:
                    event = self.read_line(block.last)
                    if event is not None:
                        yield event
                    del event
            fault = read_fault(file)
        self.finish(fault)

    def _read_block(self, block: Block) -> Iterator[Batch]:
        texts, offset, start, others = block.texts, block.offset, 0, 0
        pending = iter(texts)
        stretches: list[Rows] = []
        # msgspec takes a carriage return for white space; it has to be reported.
        plain = b"\r" not in block.data
        while True:
            records: list[Any] = []
            # What was decoded before a refusal stays in the list.
            with suppress(*_REFUSED):
                records.extend(map(self._decoder(plain=plain), pending))
            place = start + len(records)
            if records:
                rows = Rows(cast("RowShape", self._shape), records, texts[start:place], block.number + start, offset)
                stretches.append(rows)
                self._guessed = False
                self.events += len(records)
                yield rows
            if place == len(texts):
                break
            offset += _size(texts[start:place])
            data, start = texts[place], place + 1
            others += data.count(b":")
            event = self.read_line(Line(block.number + place, offset, data, ended=True, size=len(data)))
            offset += len(data) + 1
            if event is not None:
                yield event
                self._learn(event)
            del event  # it may be large, and the next one too
        self.lines, self.size = block.number + len(texts) - 1, block.offset + len(block.data)
        self._look_for_repeated_keys(stretches, block.data.count(b":") - others)

    def _decoder(self, *, plain: bool) -> Callable[[bytes], Any]:
        """What makes a row of a line and refuses every other line."""
        decode = _refuse if self._shape is None else self._shape.decode
        return decode if plain else lambda data: decode(data) if data.endswith(b"}") else _refuse(data)

    def _look_for_repeated_keys(self, stretches: Sequence[Rows], colons: int) -> None:
        """Report rows that repeat a key: they have more colons than a row with these fields has."""
        counts = [rows.shape.colons(rows.records, rows.run_ids) for rows in stretches]
        # A colon may also be written as an escape in a string; then each row has to be looked at.
        if sum(between for between, _ in counts) == colons and not any(inside for _, inside in counts):
            return
        for rows in stretches:
            for record, line in zip(rows.records, rows.lines(), strict=True):
                between, inside = rows.shape.colons((record,), (record.run_id,))
                if line.data.count(b":") != between + inside or (inside and b"\\u003" in line.data):
                    self._check_keys(line, line.data, decode_strict(line.data))

    def _learn(self, event: Event) -> None:
        """Let the shape hold this record too, when it is an ordinary one."""
        if event.event != "train_step" or self._shapes >= _MAX_SHAPES:
            return
        shape = RowShape.of(event)
        if shape is None:
            return
        wider = shape if self._shape is None or self._guessed else self._shape.widened(shape)
        self._guessed = False
        if wider != self._shape and len(wider.fields) <= MAX_FIELDS:
            self._shape = wider
            self._shapes += 1


def _refuse(data: bytes) -> Any:
    """Stands for the decoder of rows before the first of them was seen."""
    del data
    raise msgspec.ValidationError("not a row")


def _size(texts: Sequence[bytes]) -> int:
    """Bytes of these lines in the file, newlines included."""
    return sum(map(len, texts)) + len(texts)
