"""The stable artifact of a report as strict JSON, in ASCII, so that nothing in it can drive a terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, cast

from gradience_analysis.model import Report
from gradience_analysis.model.pointer import pointer_part

MAX_DEPTH = 64
_TOO_DEEP = f"(nested deeper than {MAX_DEPTH} levels)"


def render_json(report: Report) -> str:
    """Indented JSON with a final newline; a non-finite number is null and named under `nonfinite`.

    As in telemetry/v1, `nonfinite` maps the JSON pointer of each such value to `nan`, `inf` or `-inf`.
    """
    nonfinite: dict[str, str] = {}
    data = cast("dict[str, Any]", _strict(report.data, "", nonfinite, 0))
    if nonfinite:
        data["nonfinite"] = nonfinite
    return json.dumps(data, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def _strict(value: Any, pointer: str, nonfinite: dict[str, str], depth: int) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        nonfinite[pointer] = "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
        return None
    if isinstance(value, Mapping | list | tuple) and depth >= MAX_DEPTH:
        return _TOO_DEEP
    if isinstance(value, Mapping):
        entries = cast("Mapping[Any, Any]", value).items()
        return {
            str(key): _strict(item, f"{pointer}/{pointer_part(str(key))}", nonfinite, depth + 1)
            for key, item in entries
        }
    if isinstance(value, list | tuple):
        items = cast("list[Any]", value)
        return [_strict(item, f"{pointer}/{place}", nonfinite, depth + 1) for place, item in enumerate(items)]
    return value
