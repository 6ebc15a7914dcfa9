"""The rows of one bucket of a table: those that stay and those that were read, as if all of them had been read now."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from gradience_analysis.store.contents import OF_RUNS, STORED, Source, columns_of, type_named
from gradience_analysis.store.place import bucket_of
from gradience_analysis.tables.arrow import pa, pc
from gradience_analysis.tables.bundle import Tables
from gradience_analysis.tables.columns import TEXT, concat_steps, in_layout
from gradience_analysis.tables.layout import STEPS


@dataclass(frozen=True)
class Fresh:
    """A file that has been read."""

    source: Source
    tables: Tables


def merged(name: str, old: Any, stay: Mapping[str, Source], new: Sequence[Any]) -> Any:
    """The rows of one bucket of a table, in the order in which they are stored.

    Args:
        name: The table.
        old: Its rows until now; None without any.
        stay: The sources whose rows among them are kept, by path.
        new: Tables of rows to add.
    """
    kept = [] if old is None else _kept(name, old, stay)
    if name == "steps":
        # A file without a step has no say in which columns there are.
        pieces = [piece for piece in (*kept, *new) if len(piece)]
        return _ordered(name, concat_steps(pieces) if pieces else STORED[name].empty_table())
    return _ordered(name, pa.concat_tables([STORED[name].empty_table(), *kept, *new]))


def rows_of(fresh: Fresh, name: str, bucket: int, buckets: int) -> Any:
    """The rows of a table that a file brings to a bucket."""
    table = getattr(fresh.tables, name)
    if name not in OF_RUNS:
        return table if fresh.source.home(buckets) == bucket else table.slice(0, 0)
    mine = [run_id for run_id in fresh.source.run_ids if bucket_of(run_id, buckets) == bucket]
    if len(mine) == len(fresh.source.run_ids):
        return table
    return _where(table, "run_id", mine)


def paths_in(table: Any) -> set[str]:
    """The paths that rows of a table came from."""
    return set(pc.unique(table["path"]).to_pylist())


def _where(table: Any, name: str, values: Iterable[str]) -> Any:
    return table.filter(pc.is_in(table[name], value_set=pa.array(sorted(values), pa.string())))


def _kept(name: str, old: Any, stay: Mapping[str, Source]) -> list[Any]:
    there = paths_in(old)
    remain = sorted(there & stay.keys())
    rows = old if len(remain) == len(there) else _where(old, "path", remain)
    if name != "steps":
        return [rows]
    by_columns: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for path in remain:
        by_columns.setdefault(tuple(sorted(stay[path].columns.items())), []).append(path)
    if len(by_columns) == 1:
        return [as_read(rows, dict(next(iter(by_columns))))]
    return [as_read(_where(rows, "path", paths), dict(columns)) for columns, paths in by_columns.items()]


def as_read(steps: Any, columns: Mapping[str, str]) -> Any:
    """Steps as they were before other files' columns gave theirs another type.

    Args:
        steps: Rows of files that all had these columns.
        columns: As in `Source.columns`.
    """
    if columns_of(steps) == dict(columns):
        return steps
    found = {name: steps[name] for name in STEPS.names}
    # Text beside a column that all files have is never that of another type: the column's type is fixed.
    for name, kind in columns.items():
        target = type_named(kind)
        text = steps[name + TEXT] if name + TEXT in steps.column_names and name + TEXT not in columns else None
        found[name] = steps[name] if steps[name].type == target else _restored(steps[name], text, target)
    return in_layout(found, steps.num_rows)


def _restored(values: Any, text: Any, target: Any) -> Any:
    """A column in its own type: what the other type held exactly, and what had to stand as text beside it."""
    held = values.cast(target) if pa.types.is_floating(values.type) and pa.types.is_integer(target) else None
    if text is None:
        return pa.nulls(len(values), target) if held is None else held
    words = cast("list[str | None]", text.to_pylist())
    parsed = [None if word is None else word if target == pa.string() else json.loads(word) for word in words]
    moved = pa.array(parsed, target)
    return moved if held is None else pc.coalesce(held, moved)


def _ordered(name: str, table: Any) -> Any:
    """By run and path, rows of one file staying in the order of its lines."""
    keys = [key for key in ("run_id", "path") if name in OF_RUNS or key == "path"]
    order = pc.sort_indices(table, sort_keys=[(key, "ascending") for key in keys])
    if np.array_equal(order.to_numpy(), np.arange(len(order))):
        return table
    return table.take(order)


def buckets_of(sources: Collection[Source], buckets: int) -> set[int]:
    """Every bucket that one of the sources touches."""
    return {bucket for source in sources for bucket in source.touches(buckets)}
