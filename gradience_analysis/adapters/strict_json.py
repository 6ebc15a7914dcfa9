"""One JSON object, read strictly: UTF-8, no repeated key, no NaN, no lone surrogate, no `-0` for an integer."""

from __future__ import annotations

import json
from typing import Any, cast

MAX_DEPTH = 64


class StrictJsonError(ValueError):
    """Text that is no strict JSON object.

    Attributes:
        code: `duplicate_key`, `invalid_utf8`, `invalid_json`, `too_deep` or `not_an_object`.
        message: What is wrong, in words that follow the name of a file.
        key: The key it is about; empty when it is about none.
    """

    def __init__(self, code: str, message: str, key: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.key = key


def parse_object(data: bytes, *, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """The object in a JSON text.

    An integer that is written `-0` becomes the float -0.0, as in most parsers; Python alone makes 0 of it.

    Raises:
        StrictJsonError: It is none, or not strict; no input raises anything else.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"is not UTF-8: byte 0x{data[error.start]:02X} at byte {error.start + 1}"
        raise StrictJsonError("invalid_utf8", message) from error
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_integer, parse_float=_number
        )
    except json.JSONDecodeError as error:
        message = f"is not JSON: {error.msg[0].lower()}{error.msg[1:]} (character {error.pos + 1})"
        raise StrictJsonError("invalid_json", message) from error
    except RecursionError:
        raise StrictJsonError("too_deep", "nests too deeply to be read") from None
    if not isinstance(value, dict):
        raise StrictJsonError("not_an_object", "is JSON, but not an object")
    found = cast("dict[str, Any]", value)
    _refuse_depth(found, max_depth)
    return found


def shown(name: str) -> str:
    """A name out of a file, quoted, escaped and cut so that it can stand in a message."""
    text = ascii(name)
    return text if len(text) <= 100 else f"{text[:96]}...{text[0]}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise StrictJsonError("duplicate_key", f"has the key {shown(key)} twice", key)
            seen.add(key)
    for key, value in pairs:
        if not _is_text(key) or (isinstance(value, str) and not _is_text(value)):
            raise StrictJsonError("invalid_json", f"has a lone surrogate at {shown(key)}", key)
    return found


def _is_text(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _refuse_constant(token: str) -> float:
    raise StrictJsonError("invalid_json", f"has the token {token}, which JSON does not have")


def _integer(text: str) -> int | float:
    if text == "-0":
        return -0.0
    try:
        return int(text)
    except ValueError:
        raise StrictJsonError("invalid_json", f"has an integer of {len(text):,} digits") from None


def _number(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise StrictJsonError("invalid_json", "has a number beyond the range of a double")
    return value


def _refuse_depth(value: dict[str, Any], limit: int) -> None:
    level: list[Any] = [value]
    for _ in range(limit):
        inner: list[Any] = []
        for item in level:
            values: list[Any] = list(cast("dict[str, Any]", item).values()) if isinstance(item, dict) else item
            inner += [one for one in values if isinstance(one, dict | list)]
        if not inner:
            return
        level = inner
    raise StrictJsonError("too_deep", f"nests deeper than {limit} levels")
