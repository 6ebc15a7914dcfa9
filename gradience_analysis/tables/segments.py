"""Which part of a run comes when, and the view in which a later segment has replaced what it trained again."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import numpy as np

from gradience_analysis.tables.arrow import pa, pc
from gradience_analysis.tables.bundle import Tables
from gradience_analysis.tables.parts import segments_of
from gradience_analysis.telemetry.ordering import first_step, limits

_EVENTS: Final = ("steps", "evals", "metrics", "alerts", "records")
# Tables of events that a later segment replaces where it trained the same steps again.
_SUPERSEDED: Final = frozenset({"steps", "evals", "metrics"})


def segments(parts: Any) -> Any:
    """The `parts` table with each part's place in its run.

    Args:
        parts: A `parts` table, of any number of files.

    Returns:
        The same rows and columns, and: `segment_index`, position in the run on its rank, from 0; `main`, whether the
        rank is the lowest of its run; `limit`, the step from which on a later segment supersedes it, null for none;
        `order`, position among all parts, run by run in order of first appearance.
    """
    place = {(row["path"], row["part"]): number for number, row in enumerate(_keys(parts))}
    found: list[tuple[int, bool, int | None, int]] = [(0, True, None, 0)] * parts.num_rows
    order = 0
    for rows, main in segments_of(parts):
        bounds = limits([first_step(row["resume_step"], row["first_step"]) for row in rows])
        for index, (row, limit) in enumerate(zip(rows, bounds, strict=True)):
            found[place[row["path"], row["part"]]] = (index, main, None if limit == float("inf") else int(limit), order)
            order += 1
    columns = list(zip(*found, strict=True)) or [(), (), (), ()]
    kinds = {"segment_index": pa.int32(), "main": pa.bool_(), "limit": pa.int64(), "order": pa.int64()}
    for (name, kind), values in zip(kinds.items(), columns, strict=True):
        parts = parts.append_column(name, pa.array(values, kind))
    return parts


def analysis_view(tables: Tables) -> Tables:
    """The tables as `Run` shows its events: the lowest rank, without the steps that a later segment trained again.

    Returns:
        Tables of events with a column `segment` after `run_id`, ordered by run, segment and line; the others as given.
    """
    known = segments(tables.parts)
    return dataclasses.replace(
        tables, **{name: _view(getattr(tables, name), known, superseded=name in _SUPERSEDED) for name in _EVENTS}
    )


def _view(table: Any, known: Any, *, superseded: bool) -> Any:
    places = _places(table, known)
    segment, main, limit, order = (
        known[name].combine_chunks().take(places) for name in ("segment_index", "main", "limit", "order")
    )
    table = table.add_column(table.schema.get_field_index("run_id") + 1, "segment", segment)
    keep = main
    if superseded:
        replaced = pc.fill_null(pc.greater_equal(table["step"], limit), fill_value=False)
        keep = pc.and_(main, pc.invert(replaced))
    whole = bool(pc.all(keep, min_count=0).as_py())
    ordered = order.to_numpy(zero_copy_only=False)
    if not whole:
        table, ordered = table.filter(keep), ordered[keep.to_numpy(zero_copy_only=False)]
    if np.any(np.diff(ordered) < 0):
        table = table.take(pa.array(np.argsort(ordered, kind="stable")))
    return table


def _places(table: Any, known: Any) -> Any:
    """For each row of a table of events, the row of `known` that is its part."""
    if not known.num_rows or not table.num_rows:
        return pa.array([], pa.int64())
    paths = {path: number for number, path in enumerate(dict.fromkeys(known["path"].to_pylist()))}
    width = 1 + max(known["part"].to_pylist())
    lookup = np.zeros(len(paths) * width, dtype=np.int64)
    for number, row in enumerate(_keys(known)):
        lookup[paths[row["path"]] * width + row["part"]] = number
    # Strings are compared once a distinct value, not once a row.
    found: list[Any] = []
    for chunk in table["path"].chunks:
        encoded = chunk.dictionary_encode()
        codes = np.array([paths[path] for path in encoded.dictionary.to_pylist()], dtype=np.int64)
        found.append(codes[encoded.indices.to_numpy()])
    return pa.array(lookup[np.concatenate(found) * width + table["part"].to_numpy()])


def _keys(parts: Any) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = parts.select(["path", "part"]).to_pylist()
    return keys
