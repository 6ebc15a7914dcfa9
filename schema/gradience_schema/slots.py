"""Reading a JSON object into the typed fields of a dataclass, with nothing lost.

A slot is the place of one field: its name and the type it holds. A reader takes the JSON value found there and gives
the field's value, or raises `TypeError` when the value is of another type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeAlias, cast

__all__ = [
    "Slots",
    "flag",
    "integer",
    "known",
    "mapping",
    "mapping_of",
    "member_of",
    "no_extras",
    "number",
    "pair",
    "part",
    "take",
    "text",
    "texts",
]

Reader: TypeAlias = Callable[[Any], Any]
Slots: TypeAlias = Mapping[str, Reader]


def take(data: Mapping[str, Any] | None, slots: Slots) -> dict[str, Any]:
    """The fields found in ``data``, with everything that fits no slot under ``extras``.

    Args:
        data: A JSON object, or None for an empty one.
        slots: Field name → reader of its value.

    Returns:
        Keyword arguments for the dataclass; a field that is missing or null is left out.
    """
    found: dict[str, Any] = {}
    displaced: dict[str, Any] = {}
    extras: dict[str, Any] = {}
    for key, value in (data or {}).items():
        if key == "extras" and (value is None or isinstance(value, Mapping)):
            extras = dict(cast("Mapping[str, Any]", value or {}))
        elif key not in slots:
            displaced[key] = value
        elif value is not None:
            try:
                found[key] = slots[key](value)
            except TypeError:
                displaced[key] = value
    for key, value in displaced.items():
        free = key
        while free in extras:
            free += "_"
        extras[free] = value
    return {**found, "extras": extras}


def known(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` without those that are None."""
    return {key: value for key, value in values.items() if value is not None}


def no_extras() -> dict[str, Any]:
    """An empty object, fresh for each instance."""
    return {}


def text(value: Any) -> str:
    """A string."""
    return cast("str", _instance(value, str))


def flag(value: Any) -> bool:
    """A boolean."""
    return cast("bool", _instance(value, bool))


def number(value: Any) -> int | float:
    """A number as it was written; JSON's true and false are no numbers."""
    return cast("int | float", _instance(value, (int, float), but_not=bool))


def integer(value: Any) -> int:
    """An integer; ``16.0`` is one too, as JSON Schema has it."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return cast("int", _instance(value, int, but_not=bool))


def pair(value: Any) -> tuple[int | float, int | float]:
    """An array of two numbers."""
    items = _array(value)
    if len(items) != 2:
        raise TypeError(f"{len(items)} numbers in place of two")
    return number(items[0]), number(items[1])


def texts(value: Any) -> tuple[str, ...]:
    """An array of strings."""
    return tuple(text(item) for item in _array(value))


def mapping(value: Any) -> dict[str, Any]:
    """An object, copied one level deep."""
    return dict(cast("Mapping[str, Any]", _instance(value, Mapping)))


def mapping_of(reader: Reader) -> Reader:
    """An object whose values are all of the reader's type."""

    def read(value: Any) -> dict[str, Any]:
        return {key: reader(item) for key, item in mapping(value).items()}

    return read


def member_of(names: type[StrEnum]) -> Reader:
    """A string that is one of the enum's values."""

    def read(value: Any) -> StrEnum:
        try:
            return names(text(value))
        except ValueError as unknown:
            raise TypeError(str(unknown)) from unknown

    return read


def part(from_dict: Callable[[Mapping[str, Any]], Any]) -> Reader:
    """An object that another dataclass reads."""

    def read(value: Any) -> Any:
        return from_dict(_instance(value, Mapping))

    return read


def _array(value: Any) -> list[Any]:
    return list(cast("list[Any]", _instance(value, (list, tuple))))


def _instance(value: Any, kinds: type[Any] | tuple[type[Any], ...], but_not: type[Any] | None = None) -> Any:
    if not isinstance(value, kinds) or (but_not is not None and isinstance(value, but_not)):
        raise TypeError(f"a {type(value).__name__} does not fit the slot")
    return value
