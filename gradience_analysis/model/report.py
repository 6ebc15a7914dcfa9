"""A report as generic blocks, so that a renderer needs no knowledge of any report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from gradience_analysis.model.event import Issue, IssueCount
from gradience_schema import Severity


@dataclass(frozen=True, slots=True)
class Curve:
    """A line to draw: points (x, y) in order of x; non-finite y values are gaps."""

    points: tuple[tuple[float, float], ...]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on the x axis of a chart that a remark is about."""

    x: float
    severity: Severity
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over one axis, for formats that can draw; a terminal shows the sparklines of the tables in its place.

    Attributes:
        title: What is drawn.
        y_label: The quantity, with its unit where it has one.
        curves: The lines, each with its label.
        marks: Places that findings are about.
        x_label: What is counted along the x axis.
        log: Whether y is shown on a logarithmic scale; values that are not above 0 are gaps then.
    """

    title: str
    y_label: str
    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...] = ()
    x_label: str = "step"
    log: bool = False


Cell: TypeAlias = "str | Curve"


@dataclass(frozen=True, slots=True)
class Field:
    """One labelled value, already in words."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Fields:
    """Labelled values, one under the other."""

    items: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under column titles; columns named in `right` are numbers and align right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Note:
    """A remark with its weight; `details` are lines that belong under it."""

    severity: Severity
    text: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Notes:
    """Remarks, one under the other."""

    items: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class HeatRow:
    """One row of a heat strip.

    Attributes:
        name: What the row is.
        values: A value for each column; None where there is nothing, NaN where the value is undefined.
        beside: The row in a word, such as its mean; may be empty.
    """

    name: str
    values: tuple[float | None, ...]
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Heat:
    """Values over rows and columns, shown by shade, all on one scale from 0 to `high`.

    Attributes:
        title: What is shown.
        unit: What the values are, such as `share of the energy`.
        columns: Names of the columns, in order.
        rows: The rows, each with as many values as there are columns.
        high: The value of the fullest shade, above 0; what is above it looks the same.
        column_label: What the columns are.
        beside_label: What stands beside the rows; empty when nothing does.
        percent: Whether values are shares, to be written as percentages.
    """

    title: str
    unit: str
    columns: tuple[str, ...]
    rows: tuple[HeatRow, ...]
    high: float
    column_label: str = "layer"
    beside_label: str = ""
    percent: bool = False


Block: TypeAlias = Fields | Table | Curve | Chart | Heat | Notes


@dataclass(frozen=True, slots=True)
class Section:
    """Blocks under one heading; an empty title means no heading."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """One thing that was judged, such as one file: what the formats of continuous integration report on.

    Attributes:
        name: What it is called; the path of a file.
        issues: What was found, as far as it was kept, in order of its place.
        counts: Everything that was found, by code, whether or not it was kept.
        unmeasured: Why it could not be judged at all, in a sentence; empty when it was judged.
    """

    name: str
    issues: tuple[Issue, ...] = ()
    counts: tuple[IssueCount, ...] = ()
    unmeasured: str = ""

    def count(self, *severities: Severity) -> int:
        """Issues of these severities, kept or not."""
        return sum(item.count for item in self.counts if item.severity in severities)

    @property
    def breached(self) -> bool:
        """Whether something was found that is an error; False for what could not be judged."""
        return self.count(Severity.ERROR, Severity.CRITICAL) > 0


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code stands for, for the formats that explain each code once.

    Attributes:
        code: Issue code.
        text: One sentence: what was seen.
        remedy: One sentence: what to do about it.
    """

    code: str
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a command has to say.

    Attributes:
        kind: `monitor`, `validate`, ...
        title: One line: what the report is about.
        verdict: The conclusion, with its weight; the first thing a reader sees.
        sections: Everything for human eyes.
        data: The stable JSON artifact, with its `schema` id inside.
        results: What was judged, one by one; empty for a report that passes no judgement.
        meanings: What the codes in `results` stand for.
    """

    kind: str
    title: str
    verdict: Note
    sections: tuple[Section, ...]
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    results: tuple[Result, ...] = ()
    meanings: tuple[Meaning, ...] = ()
