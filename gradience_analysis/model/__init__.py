"""The types that travel between the four steps; all frozen, none does I/O."""

from __future__ import annotations

from gradience_analysis.model.event import Event, Issue, IssueCount, Segment
from gradience_analysis.model.finding import Change, Finding, Measurement, Place, Scalar
from gradience_analysis.model.report import (
    Block,
    Cell,
    Chart,
    Curve,
    Field,
    Fields,
    Heat,
    HeatRow,
    Mark,
    Note,
    Notes,
    Report,
    Section,
    Table,
)
from gradience_analysis.model.run import EvalPoint, Run, as_number, canonical_split, first_number
from gradience_analysis.model.words import plural

__all__ = [
    "Block",
    "Cell",
    "Change",
    "Chart",
    "Curve",
    "EvalPoint",
    "Event",
    "Field",
    "Fields",
    "Finding",
    "Heat",
    "HeatRow",
    "Issue",
    "IssueCount",
    "Mark",
    "Measurement",
    "Note",
    "Notes",
    "Place",
    "Report",
    "Run",
    "Scalar",
    "Section",
    "Segment",
    "Table",
    "as_number",
    "canonical_split",
    "first_number",
    "plural",
]
