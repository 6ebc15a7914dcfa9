"""Comparing, containing and computing with single values, of which any may be absent (None)."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, cast

Value: TypeAlias = "bool | int | float | str | datetime | None"

_COMPARE: Final[Mapping[str, Callable[..., bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMPUTE: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": lambda one, other: one + other,
    "-": lambda one, other: one - other,
    "*": lambda one, other: one * other,
    "//": lambda one, other: one // other,
    "%": lambda one, other: one % other,
}


def compared(sign: str, left: Value, right: Value) -> bool | None:
    """Whether the comparison holds; None when a side is absent.

    Numbers compare by their exact values. A time compares with text that is a date or a time in ISO 8601 (UTC without
    a zone). Things of different kinds are unequal, and have no order.

    Raises:
        TypeError: `<`, `<=`, `>` or `>=` between things of different kinds, or a text that is no date.
    """
    if left is None or right is None:
        return None
    if isinstance(left, datetime) != isinstance(right, datetime):
        left, right = _time(left), _time(right)
    if _kind(left) != _kind(right):
        if sign in {"==", "!="}:
            return sign == "!="
        raise TypeError(f"compares {_kind(left)} with {_kind(right)}")
    return _COMPARE[sign](cast("Any", left), cast("Any", right))


def contained(value: Value, holder: Value | list[Value]) -> bool | None:
    """Whether a value is among those of a list, or in a text; None when it is absent, or the text is.

    A text that is a JSON array, as `lora.target_modules` is, contains its items; any other text contains its parts.

    Raises:
        TypeError: The holder is neither a list nor text, or what is looked for in a text is no text.
    """
    if value is None or holder is None:
        return None
    if isinstance(holder, list):
        return any(compared("==", value, item) for item in holder)
    if not isinstance(holder, str):
        raise TypeError(f"looks into {_kind(holder)} with `in`")
    items = _items(holder)
    if items is not None:
        return value in items
    if not isinstance(value, str):
        raise TypeError(f"looks for {_kind(value)} in text")
    return value in holder


def arithmetic(sign: str, left: Value, right: Value) -> Value:
    """The result on numbers; None when one is absent.

    Division by zero gives NaN or an infinity, and so does what is beyond the range of a double. A power is computed
    in doubles, so that no expression can make a number that fills the memory; a product of integers is bounded alike.

    Raises:
        TypeError: A side is no number.
    """
    if left is None or right is None:
        return None
    for side in (left, right):
        if isinstance(side, bool | str | datetime):
            raise TypeError(f"computes with {_kind(side)}")
    one, other = cast("float", left), cast("float", right)
    try:
        if sign == "**":
            power = float(one) ** float(other)
            return math.nan if isinstance(power, complex) else power
        if sign == "/":
            return one / other
        result = _COMPUTE[sign](one, other)
        return float(result) if isinstance(result, int) and abs(result) > 1 << 1000 else result
    except ZeroDivisionError:
        return math.nan if sign != "/" or not one or one != one else math.copysign(math.inf, one)  # noqa: PLR0124
    except OverflowError:
        return math.inf


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "text" if isinstance(value, str) else "a time"


def _time(value: Value) -> Value:
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise TypeError(f"compares a time with {value[:40]!r}, which is no date such as 2026-01-31") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _items(text: str) -> list[Any] | None:
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("list[Any]", found) if isinstance(found, list) else None
