"""Lightning `metrics.csv`: one column for each logged name, training and validation on rows of their own."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gradience_analysis.errors import InputError
from gradience_analysis.importers.rows.stream import Place, RunStream
from gradience_analysis.importers.rows.values import number_in
from gradience_analysis.model import Event, Issue
from gradience_analysis.sources.lines import BOM, MAX_LINE_BYTES, Line, iter_lines
from gradience_analysis.sources.opening import open_regular, read_fault
from gradience_schema import Severity

_STEP = "step"
_LOSSES = ("loss", "train_loss", "train/loss", "training_loss", "training/loss")
_RATES = ("lr", "learning_rate")
_MONITORED = re.compile(r"lr-(?P<optimizer>.+?)(?:/pg(?P<group>[1-9][0-9]{0,3}))?")
_EVALUATION = re.compile(
    r"(?P<split>val|valid|validation|dev|eval|test)[_/](?P<metric>.+?)(?P<loader>/dataloader_idx_[0-9]{1,9})?"
)


class LightningCsv:
    """Reads what `CSVLogger` writes. It holds no times and no configuration, and never says that training ended."""

    name = "lightning-csv"
    title = "a Lightning metrics.csv"

    def sniff(self, head: bytes, path: Path) -> bool:
        """See `Importer`: a file `*.csv` whose first line is a sorted list of names, `step` among them."""
        if ".csv" not in path.suffixes:
            return False
        first, newline, _ = head.partition(b"\n")
        cells = _cells(first.removesuffix(b"\r")) if newline else None
        return cells is not None and _is_header(cells)

    def read(self, path: Path) -> Iterator[Event | Issue]:
        """See `Importer`. Rows of one step that follow each other and share no cell are one training step."""
        stream = RunStream(path, source_format=self.name, framework="lightning")
        with open_regular(path) as file:
            lines = iter_lines(file, path)
            header = next(lines, None)
            cells = None if header is None else _cells(_content(header))
            if cells is None or _STEP not in cells:
                raise InputError(str(path), f"is not {self.title}: its first line does not name a column {_STEP}.")
            yield from stream.begin({}, at=Place(1))
            yield from _events(stream, _Columns(cells), lines)
            fault = read_fault(file)
        if fault is not None:
            yield stream.issue("gzip_fault", Severity.ERROR, f"{fault}: what follows is lost.")


@dataclass
class _Columns:
    """What the columns of one header are."""

    names: list[str]

    def __post_init__(self) -> None:
        candidates = (*_LOSSES, *(f"{name}_step" for name in _LOSSES))
        self.loss = next((name for name in candidates if name in self.names), None)
        self.rate = next((name for name in _RATES if name in self.names), None)
        groups = {name: found for name in self.names if (found := _rate_of_monitor(name))}
        optimizers = {found["optimizer"] for found in groups.values()}
        alone = self.rate is None and len(optimizers) == 1
        self.groups = sorted(groups, key=lambda name: int(groups[name]["group"] or 1)) if alone else []


class _Row(NamedTuple):
    step: int | None
    fields: dict[str, Any]
    at: Place


def _events(stream: RunStream, columns: _Columns, lines: Iterable[Line]) -> Iterator[Event | Issue]:
    pending: _Row | None = None
    empty = True
    for line in lines:
        cells = _cells(_content(line)) if line.size <= MAX_LINE_BYTES else None
        if cells == columns.names:
            continue  # logs that were put one after the other keep their headers
        if cells is None or len(cells) != len(columns.names):
            yield from _refused(stream, line, cells, len(columns.names))
            continue
        empty = False
        step, fields, issues = _read(stream, columns, cells, Place(line.number, line.offset))
        if pending is not None and _follows(pending, step, fields):
            pending.fields.update(fields)
        else:
            if pending is not None:
                yield from _row(stream, columns, pending)
            pending = _Row(step, fields, Place(line.number, line.offset))
        yield from issues
    if pending is not None:
        yield from _row(stream, columns, pending)
    if empty:
        yield stream.issue("no_rows", Severity.WARNING, "has a header and no row: nothing was logged.")


def _read(
    stream: RunStream, columns: _Columns, cells: list[str], at: Place
) -> tuple[int | None, dict[str, Any], list[Issue]]:
    """A row by name, without its blank cells. Text is what CSV is made of, so that numbers in it are no surprise."""
    values: dict[str, Any] = {}
    for name, cell in zip(columns.names, cells, strict=True):
        if cell:
            number = number_in(cell)
            values[name] = cell if number is None else number
    return stream.row(values, at)


def _follows(pending: _Row, step: int | None, fields: Mapping[str, Any]) -> bool:
    """Whether a row adds to the one before it: of the same step, both of training, and no cell filled twice."""
    if step is None or step != pending.step:
        return False
    return not any(map(_is_apart, (*pending.fields, *fields))) and pending.fields.keys().isdisjoint(fields)


def _is_apart(name: str) -> bool:
    return name.endswith("_epoch") or _EVALUATION.fullmatch(name) is not None


def _row(stream: RunStream, columns: _Columns, row: _Row) -> Iterator[Event | Issue]:
    evaluations: dict[str, dict[str, Any]] = {}
    means: dict[str, Any] = {}
    training: dict[str, Any] = {}
    for name, value in row.fields.items():
        if found := _EVALUATION.fullmatch(name):
            evaluations.setdefault(_split(found), {})[found["metric"]] = value
        else:
            (means if name.endswith("_epoch") else training)[name] = value
    beside = {"epoch": row.fields["epoch"]} if "epoch" in row.fields else {}
    trains = bool(training.keys() - {"epoch"})
    if trains:
        yield from stream.onward(row.step, row.at, trains=True)
        yield from stream.event("train_step", row.step, _train_fields(columns, training), row.at)
    for split, metrics in evaluations.items():
        yield from stream.event("eval", row.step, beside, row.at, made={"split": split, "metrics": metrics})
    if means or not (trains or evaluations):
        made = {"kind": "epoch", "metrics": means}
        yield from stream.event("metrics", row.step, beside, row.at, made=made)


def _train_fields(columns: _Columns, training: Mapping[str, Any]) -> dict[str, Any]:
    fields = dict(training)
    if columns.loss is not None and columns.loss in fields:
        fields = {("loss" if name == columns.loss else name): value for name, value in fields.items()}
    if columns.rate is not None and columns.rate in fields:
        fields = {("lr" if name == columns.rate else name): value for name, value in fields.items()}
    elif columns.groups and all(name in fields for name in columns.groups):
        rates = [fields.pop(name) for name in columns.groups]
        fields["lr"] = rates[0] if len(rates) == 1 else rates
    return fields


def _split(found: re.Match[str]) -> str:
    """`val` or `test`; of one among several loaders `val/dataloader_idx_1`."""
    name = "test" if found["split"] == "test" else "val"
    return name + (found["loader"] or "")


def _rate_of_monitor(name: str) -> re.Match[str] | None:
    """A column of `LearningRateMonitor`, such as `lr-AdamW` or `lr-AdamW/pg2`; not its momentum or weight decay."""
    return None if name.endswith(("-momentum", "-weight_decay")) else _MONITORED.fullmatch(name)


def _is_header(cells: list[str]) -> bool:
    return len(cells) > 1 and _STEP in cells and cells == sorted(set(cells)) and all(cells)


def _content(line: Line) -> bytes:
    data = line.data.removeprefix(BOM) if line.number == 1 else line.data
    return data.removesuffix(b"\r")


def _cells(data: bytes) -> list[str] | None:
    """The cells of one line; None when it is not UTF-8 or not CSV."""
    try:
        rows = list(csv.reader([data.decode("utf-8")], strict=True))
    except (UnicodeDecodeError, csv.Error):
        return None
    return rows[0] if rows else []


def _refused(stream: RunStream, line: Line, cells: list[str] | None, width: int) -> Iterator[Issue]:
    at = Place(line.number, line.offset)
    if cells is None:
        yield stream.issue("invalid_csv", Severity.ERROR, "is not a line of CSV in UTF-8; it is left out.", at)
    elif not line.ended:
        message = "is cut off in the middle: the writer was stopped while it wrote. One row is lost."
        yield stream.issue("torn_tail", Severity.WARNING, message, at)
    elif cells:
        message = f"has {len(cells)} cells where the header has {width}; it is left out."
        yield stream.issue("wrong_width", Severity.ERROR, message, at)
