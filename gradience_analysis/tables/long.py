"""Collects every record but `train_step` into its table: metrics one a row, the rest as it stands."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from gradience_analysis.model import Event, canonical_split
from gradience_analysis.model.pointer import pointer_part
from gradience_analysis.tables.arrow import pa
from gradience_analysis.tables.layout import SCHEMAS
from gradience_analysis.tables.parts import Part

_EXACT: Final = 1 << 53
_TYPES: Final[Mapping[type[Any], str]] = {
    float: "number",
    int: "integer",
    str: "string",
    bool: "boolean",
    type(None): "null",
    list: "array",
    dict: "object",
}


class Records:
    """The records of one file that are no `train_step`, or of several one after the other."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in ("evals", "metrics", "alerts", "records")}

    def add(self, event: Event, part: Part, path: str) -> None:
        """Add one record to the table it belongs to."""
        payload = event.payload
        keys = (path, part.part, event.line, event.run_id, event.step, event.ts)
        if event.event == "eval":
            split = canonical_split(payload["split"])
            self._rows["evals"] += [(*keys, split, *metric) for metric in _flat(payload["metrics"], deep=False)]
        elif event.event == "metrics":
            kind = payload["kind"]
            self._rows["metrics"] += [(*keys, kind, *metric) for metric in _flat(payload["metrics"], deep=True)]
        elif event.event == "alert":
            context = payload.get("context")
            said = (payload["severity"], payload["code"], payload["message"])
            self._rows["alerts"].append((*keys, *said, None if context is None else as_json(context)[0]))
        else:
            self._rows["records"].append((*keys, event.event, *as_json(payload)))

    def tables(self) -> dict[str, Any]:
        """The finished tables, by name."""
        return {name: table_of(SCHEMAS[name], rows) for name, rows in self._rows.items()}


def table_of(schema: Any, rows: Sequence[Sequence[Any]]) -> Any:
    """A table from its rows, each with a value for every column."""
    if not rows:
        return schema.empty_table()
    return pa.table([list(column) for column in zip(*rows, strict=True)], schema=schema)


def as_json(value: Any) -> tuple[str, str | None]:
    """A JSON value as strict JSON, and the places of its non-finite numbers as JSON; None when there are none."""
    marks: dict[str, str] = {}
    text = json.dumps(_strict(value, "", marks), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text, json.dumps(marks, ensure_ascii=False, separators=(",", ":")) if marks else None


def _strict(value: Any, pointer: str, marks: dict[str, str]) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        marks[pointer] = "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
        return None
    if isinstance(value, Mapping):
        entries = cast("Mapping[str, Any]", value).items()
        return {key: _strict(item, f"{pointer}/{pointer_part(key)}", marks) for key, item in entries}
    if isinstance(value, list):
        items = enumerate(cast("list[Any]", value))
        return [_strict(item, f"{pointer}/{place}", marks) for place, item in items]
    return value


def _flat(
    metrics: Mapping[str, Any], *, deep: bool, lead: str = ""
) -> Iterator[tuple[str, float | None, str, str | None]]:
    """Name, value, JSON type and text of each metric; of a nested object each leaf, when `deep`."""
    for name, value in metrics.items():
        kind = _TYPES[type(value)]
        if deep and kind == "object" and value:
            yield from _flat(value, deep=True, lead=f"{lead}{name}.")
        elif kind == "number" or (kind == "integer" and abs(value) <= _EXACT):
            yield f"{lead}{name}", float(value), kind, None
        else:
            yield f"{lead}{name}", None, kind, as_json(value)[0]
