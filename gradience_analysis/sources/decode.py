"""Bytes of one line to a JSON value: strict and fast first, then tolerant, with every tolerance reported."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import msgspec

from gradience_analysis.model.pointer import pointer_part

_ANY: Any = msgspec.json.Decoder()
# One long key above many values would make pointers that are thousands of times as long as the line.
_MAX_POINTERS_CHARS = 4 << 20
_SHOWN_CHARS = 80


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
        nonfinite: JSON pointers of the values that are not finite, as far as they fit in 4 Mi characters.
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
    return [*((key, f"/{pointer_part(key)}") for key in outer), *((key, None) for keys in inner for key in keys)]


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
    first_token = ""

    def constant(token: str) -> float:
        nonlocal first_token
        first_token = first_token or token
        return float(token.replace("Infinity", "inf"))

    try:
        value = json.loads(text, parse_constant=constant)
    except json.JSONDecodeError as error:
        position = len(text[: error.pos].encode())
        # Some of its messages end with the "at" of the place that it puts behind them.
        what = error.msg.lower().removesuffix(" at")
        message = f"is not JSON: {what} at byte {position + 1} of the line."
        raise UndecodableError("invalid_json", message, position) from error
    except RecursionError:
        raise UndecodableError("too_deep", "nests too deeply to be read.") from None
    except ValueError as error:
        raise UndecodableError("number_too_long", "holds an integer of too many digits.") from error
    return _repair(value, first_token)


def _repair(value: Any, token: str) -> Decoded:
    """Find the non-finite numbers, and replace lone surrogates, which no encoding can write."""
    root = [value]
    nonfinite: list[str] = []
    surrogate: str | None = None
    room = _MAX_POINTERS_CHARS
    # One entry for each level, so that a line of many small values takes no more memory than its value does.
    stack: list[_Level] = [_Level(root, iter(enumerate(root)), "")]
    while stack:
        holder, pairs, _ = stack[-1]
        for key, item in pairs:
            if isinstance(item, float) and not math.isfinite(item) and room > 0:
                nonfinite.append(_pointer(stack, key))
                room -= len(nonfinite[-1])
            elif isinstance(item, str):
                fixed = _without_surrogates(item)
                if fixed != item:
                    holder[key] = fixed
                    surrogate = _pointer(stack, key) if surrogate is None else surrogate
            elif isinstance(item, dict | list):
                clean = _with_clean_keys(item)
                if clean is not item:
                    holder[key] = clean
                    surrogate = _pointer(stack, key) if surrogate is None else surrogate
                stack.append(_Level(clean, _pairs(clean), key))
                break
        else:
            stack.pop()
    return Decoded(root[0], tuple(_tolerated(nonfinite, surrogate, token)), tuple(nonfinite))


class _Level(NamedTuple):
    """A container that is being looked through: itself, its entries still to come, and its key in the one above."""

    holder: Any
    pairs: Iterator[tuple[Any, Any]]
    key: Any


def _pointer(stack: list[_Level], key: Any) -> str:
    """The JSON pointer of an entry of the last level; the first two are the root's own list and the root."""
    keys = [*(level.key for level in stack[2:]), key] if len(stack) > 1 else []
    return "".join(f"/{pointer_part(str(key))}" for key in keys)


def _tolerated(nonfinite: list[str], surrogate: str | None, token: str) -> list[Tolerated]:
    found: list[Tolerated] = []
    if token:
        # A key that is repeated may have replaced every one of them.
        where = ", ".join(map(_brief, nonfinite[:3])) or "a key that stands again"
        message = f"bare {token} at {where}: strict JSON has no such token; read as a non-finite number."
        found.append(Tolerated("nonfinite_token", message, nonfinite[0] if nonfinite else ""))
    elif nonfinite:
        message = f"the number at {_brief(nonfinite[0])} is too large for a double; read as infinity."
        found.append(Tolerated("number_overflow", message, nonfinite[0]))
    if surrogate is not None:
        message = f"lone surrogate at {_brief(surrogate)}: not a character; read as U+FFFD."
        found.append(Tolerated("lone_surrogate", message, surrogate))
    return found


def _brief(pointer: str) -> str:
    return pointer if len(pointer) <= _SHOWN_CHARS else f"{pointer[:_SHOWN_CHARS]}…"


def _pairs(holder: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(holder, dict):
        return iter(cast("dict[Any, Any]", holder).items())
    return enumerate(cast("list[Any]", holder))


def _with_clean_keys(item: Any) -> Any:
    if not isinstance(item, dict):
        return cast("list[Any]", item)
    entries = cast("dict[str, Any]", item)
    if "".join(entries).isascii():
        return entries
    clean = {_without_surrogates(key): value for key, value in entries.items()}
    return entries if clean.keys() == entries.keys() else clean


def _without_surrogates(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
