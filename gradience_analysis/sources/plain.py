"""What the text formats have in common: the fault of a text, texts without quotes, and how deep values may nest."""

from __future__ import annotations

from typing import Any, cast

MAX_DEPTH = 64


class TextFault(ValueError):  # noqa: N818 - it becomes an InputError, with the file's name, before it leaves the room
    """A text that holds no settings.

    Attributes:
        message: What is wrong, in words that follow the name of the file.
        remedy: What to do about it; empty when nothing general can be said.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class Unquoted(str):
    """A text that stands in YAML without quotes, so that it may have been meant as a number."""

    __slots__ = ()


def brief(text: str, limit: int = 60) -> str:
    """A text out of a file, quoted, escaped and cut so that it can stand in a sentence."""
    shown = ascii(text if len(text) <= limit else text[:limit])
    return shown if len(text) <= limit else f"{shown[:-1]}...{shown[-1]}"


def whole_number(text: str) -> int:
    """The integer that a text in decimal digits is.

    Raises:
        TextFault: It has more than 64 bits, which no setting has.
    """
    if len(text) > 20 or not -(1 << 63) <= int(text) < 1 << 64:
        raise TextFault(f"has an integer beyond 64 bits ({brief(text, 20)}).", "No setting is that large.")
    return int(text)


def refuse_depth(value: object, limit: int = MAX_DEPTH) -> None:
    """Refuse a value that nests deeper than the limit.

    Raises:
        TextFault: It does.
    """
    level: list[object] = [value]
    for _ in range(limit + 1):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner += cast("dict[Any, object]", item).values()
            elif isinstance(item, list):
                inner += cast("list[object]", item)
        if not inner:
            return
        level = inner
    raise TextFault(f"nests deeper than {limit} levels.")
