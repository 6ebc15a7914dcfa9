"""Values of a foreign row: numbers in strings, names that the envelope uses, types that a v1 slot does not hold."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from gradience_analysis.model.pointer import pointer_part

RESERVED = frozenset(
    {
        *("schema", "ts", "run_id", "event", "step", "seq"),
        *("nonfinite", "renamed", "truncated", "dropped_events", "telemetry_faults"),
    }
)
"""Field names that belong to the envelope of a v1 record."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_LONGEST_NUMBER = 64
_MAX_STEP = 2**63 - 1


def number_in(text: str) -> int | float | None:
    """The number that a string is, written as JSON or Python writes it; None for any other string.

    `"0012"`, `"1,5"`, `"22.3%"` and `"1:02"` are no numbers. NaN and infinity are numbers.
    """
    if len(text) > _LONGEST_NUMBER:
        return None
    if found := _NUMBER.fullmatch(text):
        return float(text) if any(found.groups()) else int(text)
    return float(text) if _NOT_FINITE.fullmatch(text) else None


def is_number(value: object) -> bool:
    """Whether a JSON value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def as_step(value: object) -> int | None:
    """A step as a non-negative 64-bit integer (`10.0` is one); None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not value.is_integer():
        return None
    return int(value) if 0 <= value <= _MAX_STEP else None


def read_strings(row: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A row with the numbers that stood in strings, and the names of those.

    Logs that went through a scraper or a terminal hold `"1.25"` for 1.25. Whoever imports wants the number; that it
    was a string is for the caller to report.
    """
    read: dict[str, Any] = {}
    names: list[str] = []
    for name, value in row.items():
        number = number_in(value) if isinstance(value, str) else None
        read[name] = value if number is None else number
        if number is not None:
            names.append(name)
    return read, names


class Fitted(NamedTuple):
    """The payload of an event, fitted to the schema.

    Attributes:
        payload: Every field of the row; those that do not fit stand under `x_<name>`, and `renamed` says so.
        misfits: Names of the fields whose value is of a type that their slot does not hold.
    """

    payload: dict[str, Any]
    misfits: list[str]


def fit(event: str, fields: Mapping[str, Any], taken: Mapping[str, Any] | None = None) -> Fitted:
    """Fit the fields of a row into the payload of an event.

    Args:
        event: Event type.
        fields: Fields with names of any origin.
        taken: Fields that the importer has made itself (`split`, `metrics`, ...); they go first and win.
    """
    payload: dict[str, Any] = dict(taken or {})
    renamed: dict[str, str] = {}
    misfits: list[str] = []
    for name, value in fields.items():
        fits = _fits(event, name, value)
        if not fits:
            misfits.append(name)
        target = name
        if not fits or name in RESERVED or name in payload:
            target = f"x_{name}"
            while target in payload or target in fields:
                target = f"x_{target}"
            renamed[f"/{pointer_part(target)}"] = name
        payload[target] = value
    return Fitted(payload | {"renamed": renamed} if renamed else payload, misfits)


def _fits(event: str, name: str, value: object) -> bool:
    """Whether a value is of a type that its slot in v1 holds; other names take any."""
    if (event, name) == ("run_end", "reason"):
        return value is None or isinstance(value, str)
    if event != "train_step" or name not in {"loss", "grad_norm", "epoch", "lr"}:
        return True
    if name == "lr" and isinstance(value, list):
        return all(item is None or is_number(item) for item in cast("list[object]", value))
    return value is None or is_number(value)


def nonfinite_pointers(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """JSON pointers of the values in a payload that are NaN or infinite."""
    found: list[str] = []
    pending: list[tuple[str, Any]] = [(f"/{pointer_part(name)}", value) for name, value in payload.items()]
    while pending:
        pointer, value = pending.pop()
        if isinstance(value, float):
            if not math.isfinite(value):
                found.append(pointer)
        elif isinstance(value, dict):
            members = cast("dict[str, Any]", value).items()
            pending.extend((f"{pointer}/{pointer_part(name)}", member) for name, member in members)
        elif isinstance(value, list):
            items = enumerate(cast("list[Any]", value))
            pending.extend((f"{pointer}/{index}", item) for index, item in items)
    return tuple(sorted(found))
