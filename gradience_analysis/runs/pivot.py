"""A metric against the configuration, runs that differ in nothing else (seeds) taken together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import pandas as pd

from gradience_analysis.errors import GradienceError
from gradience_analysis.runs.expression import UnknownColumnError
from gradience_analysis.runs.frames import frame
from gradience_analysis.tables.arrow import pa

Aggregate: TypeAlias = Literal["median", "mean", "min", "max", "std", "count"]
_DOUBLE: Final = pa.float64()
_KINDS: Final = ("final", "best", "best_step", "min")


def pivot_table(
    table: Any, metric: str, *, by: Sequence[str], value: str, over: str | None, aggregate: Aggregate
) -> pd.DataFrame:
    """See `Runs.pivot`."""
    if aggregate not in AGGREGATES:
        raise GradienceError(f"There is no aggregate {aggregate!r}.", f"There are: {', '.join(AGGREGATES)}.")
    column = _column(table, metric, value)
    for name in (*by, *((over,) if over else ())):
        if name not in table.column_names:
            raise UnknownColumnError(name, table.column_names)
    if not by:
        raise GradienceError("A pivot needs a column to group by.", "Such as by=['lora.r'].")
    groups = _groups(table, column, [*by, *([over] if over else [])])
    if over is None:
        return _long(table, column, by, groups)
    return _wide(table, by, over, groups, AGGREGATES[aggregate])


def _column(table: Any, metric: str, value: str) -> str:
    names = table.column_names
    for name in (f"{metric}.{value}", metric):
        if name in names:
            kind = table.schema.field(name).type
            if pa.types.is_integer(kind) or pa.types.is_floating(kind):
                return str(name)
            raise GradienceError(f"The column {name!r} holds no numbers.", "Give a metric, such as val.loss.")
    have = [kind for kind in _KINDS if f"{metric}.{kind}" in names]
    if have:
        raise GradienceError(
            f"There is no {value!r} of {metric!r}: its direction may not be known.", f"There is: {', '.join(have)}."
        )
    metrics = dict.fromkeys(name.rpartition(".")[0] for name in names if name.rpartition(".")[2] in _KINDS)
    raise UnknownColumnError(metric, list(metrics), "the metrics of the runs")


def _groups(table: Any, column: str, keys: Sequence[str]) -> dict[tuple[Any, ...], list[Any]]:
    """Values by key, the groups in order; absent settings make a group of their own, the last."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    for row in table.select(list(dict.fromkeys([*keys, column]))).to_pylist():
        found.setdefault(tuple(row[key] for key in keys), []).append(row[column])
    return dict(sorted(found.items(), key=lambda item: tuple(map(_sortable, item[0]))))


def _sortable(value: Any) -> tuple[bool, bool, Any]:
    undefined = isinstance(value, float) and math.isnan(value)
    return value is None, undefined, 0 if value is None or undefined else value


def _long(table: Any, column: str, by: Sequence[str], groups: Mapping[tuple[Any, ...], Sequence[Any]]) -> pd.DataFrame:
    known = [_known(values) for values in groups.values()]
    numbers = {
        column: pa.array([_median(values) for values in known], pa.float64()),
        "min": pa.array([_lowest(values) for values in known], pa.float64()),
        "max": pa.array([_highest(values) for values in known], pa.float64()),
        "count": pa.array([len(values) for values in known], pa.int64()),
        "runs": pa.array([len(values) for values in groups.values()], pa.int64()),
    }
    return frame(pa.table(numbers)).set_index(_index(table, by, list(groups)))


def _wide(
    table: Any,
    by: Sequence[str],
    over: str,
    groups: Mapping[tuple[Any, ...], Sequence[Any]],
    combine: Callable[[Sequence[Any]], Any],
) -> pd.DataFrame:
    rows = list(dict.fromkeys(key[:-1] for key in groups))
    labels = sorted(dict.fromkeys(key[-1] for key in groups), key=_sortable)
    columns = [
        pa.array([combine(_known(groups[*row, label])) if (*row, label) in groups else None for row in rows], _DOUBLE)
        for label in labels
    ]
    wide = frame(pa.table(columns, names=[str(place) for place in range(len(labels))])).set_index(
        _index(table, by, rows)
    )
    wide.columns = pd.Index(labels, name=over)
    return wide


def _index(table: Any, by: Sequence[str], keys: Sequence[tuple[Any, ...]]) -> pd.Index[Any] | list[pd.Index[Any]]:
    arrays = [
        pd.Index(pd.array(pa.array([key[place] for key in keys], kind), dtype=pd.ArrowDtype(kind)), name=name)
        for place, name in enumerate(by)
        for kind in (table.schema.field(name).type,)
    ]
    return arrays[0] if len(arrays) == 1 else pd.MultiIndex.from_arrays(arrays)


def _known(values: Sequence[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def _defined(combine: Callable[[Sequence[Any]], Any], least: int = 1) -> Callable[[Sequence[Any]], Any]:
    """NaN when a value is NaN: a run that diverged is not left out of its group. None for fewer values than `least`."""

    def combined(values: Sequence[Any]) -> Any:
        if len(values) < least:
            return None
        return math.nan if any(value != value for value in values) else combine(values)  # noqa: PLR0124

    return combined


_median = _defined(statistics.median)
_lowest = _defined(min)
_highest = _defined(max)
AGGREGATES: Final[Mapping[str, Callable[[Sequence[Any]], Any]]] = {
    "median": _median,
    "mean": _defined(lambda values: math.fsum(values) / len(values)),
    "min": _lowest,
    "max": _highest,
    "std": _defined(statistics.stdev, 2),
    "count": len,
}
"""How the values of a group become one; a group without a value gives NA. `std` is the sample's, of two or more."""
