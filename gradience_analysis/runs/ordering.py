"""The rows of a table in order of a column: numbers, then NaN, then what is absent."""

from __future__ import annotations

import math
from typing import Any

from gradience_analysis.tables.arrow import pa


def sorted_by(table: Any, column: str, *, descending: bool = False) -> Any:
    """The table in order of a column; NaN and absent values come last either way, equal ones stay in their order."""
    values = table[column].to_pylist()
    known = [place for place, value in enumerate(values) if value is not None and not _undefined(value)]
    undefined = [place for place, value in enumerate(values) if value is not None and _undefined(value)]
    absent = [place for place, value in enumerate(values) if value is None]
    known.sort(key=lambda place: values[place], reverse=descending)
    return table.take(pa.array([*known, *undefined, *absent], pa.int64()))


def _undefined(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
