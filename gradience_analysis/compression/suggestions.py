"""Ranks from a file: what `gradience audit --suggest-per-layer --json` writes, or a plain JSON object of ranks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from gradience_analysis.adapters.opening import read_bounded
from gradience_analysis.adapters.strict_json import StrictJsonError, parse_object, shown
from gradience_analysis.errors import InputError

MAX_BYTES = 64 << 20
_REMEDY = "Write it with gradience audit DIR --suggest-per-layer --json, or as {module: rank}."
_KEY = "rank_suggestions"
_ROWS = "layers"


def read_suggestions(path: Path) -> dict[str, int]:
    """Module → rank, from a file.

    Of an audit's JSON, the layers under `rank_suggestions` count: `name` and `suggested_r` of each.

    Raises:
        InputError: The file cannot be read, is neither of the two, or gives a rank that is no whole number above 0.
    """
    try:
        found = parse_object(read_bounded(path, MAX_BYTES))
    except StrictJsonError as error:
        raise InputError(str(path), f"{error.message}.", _REMEDY) from error
    if _KEY in found:
        found = _rows(found[_KEY], path)
    elif "schema" in found:
        raise InputError(str(path), f"is an artifact of its own without {_KEY}.", _REMEDY)
    if not found:
        raise InputError(str(path), "gives no module a rank.", _REMEDY)
    for name, rank in found.items():
        if type(rank) is not int or rank < 1:
            raise InputError(str(path), f"gives {shown(name)} a rank that is no whole number above 0.", _REMEDY)
    return cast("dict[str, int]", found)


def _rows(value: object, path: Path) -> dict[str, Any]:
    rows = cast("Mapping[str, object]", value).get(_ROWS) if isinstance(value, dict) else None
    if not isinstance(rows, list):
        raise InputError(str(path), f"has no suggestions for each module: {_KEY} is empty.", _REMEDY)
    found: dict[str, Any] = {}
    for row in cast("list[object]", rows):
        fields: Mapping[str, object] = cast("Mapping[str, object]", row) if isinstance(row, dict) else {}
        name = fields.get("name")
        if not isinstance(name, str) or "suggested_r" not in fields:
            raise InputError(str(path), f"has a layer under {_KEY} without name and suggested_r.", _REMEDY)
        found[name] = fields["suggested_r"]
    return found
