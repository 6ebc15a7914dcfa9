"""JSON documents of a model's folder, read within bounds and never followed anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from gradience_analysis.adapters.opening import read_bounded
from gradience_analysis.errors import InputError

SMALL_BYTES = 16 << 20


def read_object(path: Path, limit: int = SMALL_BYTES) -> dict[str, Any]:
    """The JSON object in a file; as lenient as `json`, because transformers reads these files with it.

    Raises:
        InputError: The file is missing, too large, or holds no JSON object.
    """
    data = read_bounded(path, limit)
    try:
        value = json.loads(data)
    except RecursionError:
        raise InputError(str(path), "nests too deeply to be read.") from None
    except json.JSONDecodeError as error:
        what = f"is not JSON: {error.msg[0].lower()}{error.msg[1:]} at line {error.lineno}, column {error.colno}."
        raise InputError(str(path), what) from error
    except ValueError as error:
        raise InputError(str(path), "is not JSON in UTF-8.") from error
    if not isinstance(value, dict):
        raise InputError(str(path), "holds no JSON object.")
    return cast("dict[str, Any]", value)


def read_object_if_there(path: Path, limit: int = SMALL_BYTES) -> dict[str, Any]:
    """The same; empty when the file is missing or cannot be read."""
    try:
        return read_object(path, limit)
    except InputError:
        return {}


def count_in(document: dict[str, Any], *names: str) -> int | None:
    """The first of these entries that is a whole number of at least 1."""
    for name in names:
        value = document.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def text_in(document: dict[str, Any], name: str) -> str:
    """An entry that is a text; empty otherwise."""
    value = document.get(name)
    return value if isinstance(value, str) else ""
