"""JSON text to a value: strict, but for the bare tokens NaN and Infinity, which the checks are to judge."""

from __future__ import annotations

import json
from typing import Any

from gradience_analysis.sources.plain import TextFault, brief, refuse_depth, whole_number


def parse_json(text: str) -> Any:
    """The value in a JSON text.

    Raises:
        TextFault: It is not JSON, repeats a key in one object, or nests too deeply.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_int=whole_number)
        refuse_depth(value)
    except json.JSONDecodeError as error:
        what = error.msg[0].lower() + error.msg[1:].removesuffix(" at")
        where = f"line {error.lineno:,}, column {error.colno:,}"
        raise TextFault(f"is not JSON: {what} at {where}.", _remedy(text, error.msg)) from error
    except RecursionError:
        raise TextFault("nests too deeply to be read.") from None
    return value


def _remedy(text: str, message: str) -> str:
    if message == "Extra data" and '"event"' in text[:4_096]:
        return "Telemetry is read by `gradience monitor`."
    return ""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise TextFault(f"has the key {brief(key)} twice in one object.", "Keep the one that is meant.")
            seen.add(key)
    return found
