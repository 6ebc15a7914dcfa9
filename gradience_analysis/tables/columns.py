"""Columns out of values whose type only the whole column shows: exact, or as text beside it, never quietly changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from gradience_analysis.tables.arrow import pa, pc
from gradience_analysis.tables.layout import STEPS

TEXT: Final = "__text"
"""What the name of a column of text ends with that stands beside a column of the same name without it."""

_REFUSED: Final = (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError)
_EXACT: Final = 1 << 53
_INT64: Final = range(-(1 << 63), 1 << 63)
_FIXED: Final = {field.name: field.type for field in STEPS}


def column(values: Sequence[Any], kind: Any = None, *, mixed: bool = True) -> tuple[Any, Any]:
    """The values as an Arrow array, and those that it cannot hold as text.

    Args:
        values: Python values of JSON scalars; None where there is none.
        kind: The type it must have; None to take what holds most: int64 when every number is an integer, else
            float64; string without a number; bool without either.
        mixed: Values of several JSON types may be among them, as far as the caller knows.

    Returns:
        The array, and None when nothing is missing from it, else an array of text with the values that are null there.
    """
    # Arrow itself refuses what it cannot hold exactly, but takes a boolean among numbers for a number.
    if not (mixed and bool in set(map(type, values)) and kind != pa.bool_()):
        try:
            return pa.array(values, kind), None
        except _REFUSED:
            pass
    target = _target(values) if kind is None else kind
    held = [value if _holds(target, value) else None for value in values]
    texts = [None if _holds(target, value) else _text(value) for value in values]
    whole = all(text is None for text in texts)
    return pa.array(held, target), None if whole else pa.array(texts, pa.string())


def joined(arrays: Sequence[Any], kind: Any = None) -> tuple[Any, Any]:
    """Arrays of different types one after the other: the same rule as `column`, over all of them.

    Returns:
        A chunked array, and None or the text of what it cannot hold.
    """
    kinds = {array.type for array in arrays} - {pa.null()}
    target = kind or (pa.null() if not kinds else next(iter(kinds)) if len(kinds) == 1 else _common(kinds))
    held: list[Any] = []
    texts: list[Any] = []
    for array in arrays:
        one, text = _as_type(array, target)
        held.append(one)
        texts.append(text)
    whole = pa.chunked_array(held, target)
    if all(text is None for text in texts):
        return whole, None
    blank = [pa.nulls(len(one), pa.string()) if text is None else text for one, text in zip(held, texts, strict=True)]
    return whole, pa.chunked_array(blank, pa.string())


def concat_steps(tables: Sequence[Any]) -> Any:
    """Step tables of several files one below the other; each column has one type, the extra ones come by name."""
    tables = [table for table in tables if table.num_rows] or list(tables[:1])
    names = dict.fromkeys(name for table in tables for name in table.column_names)
    kinds: dict[str, set[Any]] = {name: set() for name in names}
    for table in tables:
        for field in table.schema:
            kinds[field.name].add(field.type)
    columns: dict[str, Any] = {}
    for name in names:
        parts = [
            chunk
            for table in tables
            for chunk in (table[name].chunks if name in table.column_names else [pa.nulls(table.num_rows)])
        ]
        whole, text = joined(parts, _FIXED.get(name))
        _put(columns, name, whole)
        if text is not None:
            _put(columns, name + TEXT, text)
    return in_layout(columns, sum(table.num_rows for table in tables))


def in_layout(columns: dict[str, Any], rows: int) -> Any:
    """A table of steps from its columns: those of `STEPS` first, null where there are none, then the others by name."""
    full = {name: columns.get(name) if name in columns else pa.nulls(rows, kind) for name, kind in _FIXED.items()}
    # A column in which nothing was ever written is one of numbers without a value.
    others = {
        name: value.cast(pa.float64()) if pa.types.is_null(value.type) else value
        for name, value in sorted(columns.items())
        if name not in _FIXED
    }
    return pa.table(full | others)


def _put(columns: dict[str, Any], name: str, array: Any) -> None:
    """Add a column; the text beside another column may come from two sides, and then each row from one of them."""
    columns[name] = pc.coalesce(columns[name], array) if name in columns else array


def _as_type(array: Any, target: Any) -> tuple[Any, Any]:
    if array.type == target:
        return array, None
    numeric = pa.types.is_integer(array.type) and pa.types.is_floating(target)
    if numeric or pa.types.is_null(array.type):
        try:
            return array.cast(target, safe=True), None
        except pa.ArrowInvalid:
            pass
    return column(array.to_pylist(), target)


def _target(values: Sequence[Any]) -> Any:
    kinds: set[type[Any]] = {type(value) for value in values if value is not None}
    if float in kinds:
        return pa.float64()
    if int in kinds:
        return pa.int64()
    return pa.string() if str in kinds else pa.bool_()


def _common(kinds: set[Any]) -> Any:
    for target in (pa.float64(), pa.int64(), pa.string()):
        if target in kinds:
            return target
    return pa.bool_()


def _holds(target: Any, value: object) -> bool:
    if value is None:
        return True
    if isinstance(value, bool):
        return bool(target == pa.bool_())
    if isinstance(value, int):
        return value in _INT64 if target == pa.int64() else target == pa.float64() and abs(value) <= _EXACT
    return bool(target == (pa.float64() if isinstance(value, float) else pa.string()))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
