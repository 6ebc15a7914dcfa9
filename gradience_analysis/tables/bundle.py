"""All tables of one file, or of many, together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Self

from gradience_analysis.tables.arrow import pa
from gradience_analysis.tables.columns import concat_steps
from gradience_analysis.tables.layout import SCHEMAS


@dataclass(frozen=True)
class Tables:
    """The tables of one file or of many; nothing superseded is left out, nothing is converted.

    Attributes:
        steps: As `STEPS`, and so on for each.
    """

    steps: Any
    evals: Any
    metrics: Any
    alerts: Any
    records: Any
    parts: Any
    issues: Any
    issue_counts: Any
    bad_lines: Any
    files: Any

    @classmethod
    def empty(cls) -> Self:
        """All tables, without a row."""
        return cls(**{name: schema.empty_table() for name, schema in SCHEMAS.items()})

    @classmethod
    def concat(cls, tables: Iterable[Tables]) -> Self:
        """Tables of several files one below the other, in the order given."""
        several = list(tables)
        if not several:
            return cls.empty()
        joined = {
            field.name: pa.concat_tables([getattr(one, field.name) for one in several])
            for field in fields(cls)
            if field.name != "steps"
        }
        return cls(steps=concat_steps([one.steps for one in several]), **joined)
