"""Puts non-finite values back where the `nonfinite` field of a record says they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast


def restore_nonfinite(record: dict[str, Any], marks: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Replace each null that `marks` points at by NaN or infinity, in place.

    Args:
        record: The record; only nulls are replaced.
        marks: JSON pointer → `nan`, `inf` or `-inf`.

    Returns:
        The pointers that were restored, and those at which there is no null to replace.
    """
    restored: list[str] = []
    unplaced: list[str] = []
    for pointer, mark in marks.items():
        (restored if _set(record, pointer, float(mark)) else unplaced).append(pointer)
    return tuple(restored), tuple(unplaced)


def _set(record: dict[str, Any], pointer: str, value: float) -> bool:
    holder: Any = record
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for part in parents:
        holder = _child(holder, part)
    if isinstance(holder, dict):
        mapping = cast("dict[str, Any]", holder)
        if last not in mapping or mapping[last] is not None:
            return False
        mapping[last] = value
        return True
    if isinstance(holder, list):
        items = cast("list[Any]", holder)
        index = _index(last, len(items))
        if index is None or items[index] is not None:
            return False
        items[index] = value
        return True
    return False


def _child(holder: Any, part: str) -> Any:
    if isinstance(holder, dict):
        return cast("dict[str, Any]", holder).get(part)
    if isinstance(holder, list):
        items = cast("list[Any]", holder)
        index = _index(part, len(items))
        return None if index is None else items[index]
    return None


def _index(part: str, length: int) -> int | None:
    # JSON pointer indices are ASCII digits; int() alone would take "+1", " 1" and other scripts' digits.
    if not (part.isascii() and part.isdigit()) or len(part) > len(str(length)):
        return None
    index = int(part)
    return index if index < length else None
