"""Bytes of one line to a JSON value: strict and fast first, then tolerant, with every tolerance reported."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import msgspec

_ANY: Any = msgspec.json.Decoder()


class UndecodableError(ValueError):
    """A line that holds no JSON value.

    Attributes:
        code: Issue code.
        message: One plain sentence.
        position: Byte offset of the fault within the line.
    """

    def __init__(self, code: str, message: str, position: int = 0) -> None:
        super().__init__(code, message, position)
        self.code = code
        self.message = message
        self.position = position


@dataclass(frozen=True, slots=True)
class Tolerated:
    """Something the standard does not allow, read all the same."""

    code: str
    message: str
    pointer: str


class Decoded(NamedTuple):
    """A JSON value, with what had to be tolerated to read it.

    Attributes:
        value: The value; bare `NaN` and `Infinity` tokens have become floats.
        tolerated: One entry for each departure from strict JSON.
        nonfinite: JSON pointers of the values that are not finite.
    """

    value: Any
    tolerated: tuple[Tolerated, ...] = ()
    nonfinite: tuple[str, ...] = ()


def decode_strict(data: bytes) -> Any:
    """The JSON value in one line, or None where it takes more care; fast, and integers of any size stay exact."""
    # orjson would be a little faster, but makes a float of an integer beyond 64 bits.
    try:
        return _ANY.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def decode(data: bytes) -> Decoded:
    """The JSON value in one line.

    Raises:
        UndecodableError: The bytes are not UTF-8, not JSON, too deep, or a block of NUL.
    """
    value = decode_strict(data)
    return _decode_tolerantly(data) if value is None else Decoded(value)


def repeats_a_key(data: bytes, value: Any) -> bool:
    """Whether the text of a value may repeat a key in one object: False is certain, True is all but certain.

    Every key needs a colon, so text with no more colons than the value has keys (and strings have colons)
    repeats none. A colon in disguise (backslash, u003a) is given no credit.

    Args:
        data: The JSON text of an object or array, UTF-8.
        value: What it was decoded to; of a repeated key the last value only.
    """
    return data.count(b":") != _colons(value) or b"\\u003" in data


def repeated_keys(data: bytes) -> list[tuple[str, str | None]]:
    """Keys that stand more than once in one object of a JSON text, each with its pointer when it is a top-level one."""
    found: list[list[str]] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: set[str] = set()
        found.append([])
        for key, _ in items:
            if key in seen:
                found[-1].append(key)
            seen.add(key)
        return dict(items)

    json.loads(data, object_pairs_hook=pairs)  # the outermost object comes last
    *inner, outer = found or [[]]
    return [*((key, f"/{_escape(key)}") for key in outer), *((key, None) for keys in inner for key in keys)]


def _colons(value: Any) -> int:
    total = 0
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            entries = cast("dict[str, Any]", item)
            total += len(entries) + "".join(entries).count(":")
            values: Iterable[Any] = entries.values()
        else:
            values = cast("list[Any]", item)
        for inner in values:
            if isinstance(inner, str):
                total += inner.count(":")
            elif isinstance(inner, dict | list):
                stack.append(inner)
    return total


def _decode_tolerantly(data: bytes) -> Decoded:
    if not data.strip(b"\x00"):
        message = f"{len(data)} NUL bytes where a record should be: space the disk gave out, but never filled."
        raise UndecodableError("nul_bytes", message)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"is not UTF-8: byte 0x{data[error.start]:02X} at byte {error.start + 1} of the line."
        raise UndecodableError("invalid_utf8", message, error.start) from error
    tokens: list[str] = []

    def constant(token: str) -> float:
        tokens.append(token)
        return float(token.replace("Infinity", "inf"))

    try:
        value = json.loads(text, parse_constant=constant)
    except json.JSONDecodeError as error:
        position = len(text[: error.pos].encode())
        message = f"is not JSON: {error.msg.lower()} at byte {position + 1} of the line."
        raise UndecodableError("invalid_json", message, position) from error
    except RecursionError:
        raise UndecodableError("too_deep", "nests too deeply to be read.") from None
    except ValueError as error:
        raise UndecodableError("number_too_long", "holds an integer of too many digits.") from error
    return _repair(value, tokens)


def _repair(value: Any, tokens: list[str]) -> Decoded:
    """Find the non-finite numbers, and replace lone surrogates, which no encoding can write."""
    root = [value]
    nonfinite: list[str] = []
    surrogates: list[str] = []
    stack: list[tuple[Any, str]] = [(root, "")]
    while stack:
        holder, pointer = stack.pop()
        for key, item in _items(holder):
            place = pointer if holder is root else f"{pointer}/{_escape(str(key))}"
            if isinstance(item, float) and not math.isfinite(item):
                nonfinite.append(place)
            elif isinstance(item, str):
                fixed = _without_surrogates(item)
                if fixed != item:
                    holder[key] = fixed
                    surrogates.append(place)
            elif isinstance(item, dict | list):
                holder[key] = _with_clean_keys(item)
                stack.append((holder[key], place))
    return Decoded(root[0], tuple(_tolerated(nonfinite, surrogates, tokens)), tuple(nonfinite))


def _tolerated(nonfinite: list[str], surrogates: list[str], tokens: list[str]) -> list[Tolerated]:
    found: list[Tolerated] = []
    if tokens:
        where = ", ".join(nonfinite[:3])
        message = f"bare {tokens[0]} at {where}: strict JSON has no such token; read as a non-finite number."
        found.append(Tolerated("nonfinite_token", message, nonfinite[0]))
    elif nonfinite:
        message = f"the number at {nonfinite[0]} is too large for a double; read as infinity."
        found.append(Tolerated("number_overflow", message, nonfinite[0]))
    if surrogates:
        message = f"lone surrogate at {surrogates[0]}: not a character; read as U+FFFD."
        found.append(Tolerated("lone_surrogate", message, surrogates[0]))
    return found


def _items(holder: Any) -> list[tuple[Any, Any]]:
    if isinstance(holder, dict):
        return list(cast("dict[Any, Any]", holder).items())
    return list(enumerate(cast("list[Any]", holder)))


def _with_clean_keys(item: Any) -> Any:
    if not isinstance(item, dict):
        return cast("list[Any]", item)
    return {_without_surrogates(key): value for key, value in cast("dict[str, Any]", item).items()}


def _without_surrogates(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
