"""The layouts of examples that are known, and what of an example is its content."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

DIGEST_BYTES = 16
NORMALISATION = "SHA-256 of the example's content after Unicode NFKC, with each run of white space as one space"


class Layout(NamedTuple):
    """A set of fields that belong together.

    Attributes:
        name: What reports call it.
        fields: Every field that an example of it needs.
        content: Those among them that two examples are compared by; a label is none of them.
        label: The field that holds a class, or an empty string.
    """

    name: str
    fields: tuple[str, ...]
    content: tuple[str, ...]
    label: str = ""


def _of(*fields: str) -> Layout:
    return Layout("/".join(fields), fields, fields)


def _classified(*fields: str, label: str) -> Layout:
    return Layout("+".join((*fields, label)), (*fields, label), fields, label)


LAYOUTS: tuple[Layout, ...] = (
    Layout("input_ids/labels", ("input_ids", "labels"), ("input_ids",)),
    Layout("input_ids+label", ("input_ids", "label"), ("input_ids",), "label"),
    _of("input_ids"),
    _of("messages"),
    _of("conversations"),
    _of("chosen", "rejected"),
    _of("prompt", "completion"),
    _of("prompt", "response"),
    _of("instruction", "output"),
    _of("instruction", "response"),
    _of("question", "answer"),
    _classified("sentence1", "sentence2", label="label"),
    _classified("premise", "hypothesis", label="label"),
    _classified("sentence", label="label"),
    _classified("text", label="label"),
    _classified("text", label="labels"),
    _of("text"),
)
"""An example is of the first layout whose fields it has, all of them with a value other than null."""

KNOWN = frozenset(name for layout in LAYOUTS for name in layout.fields)


def known_fields(row: Mapping[str, Any]) -> frozenset[str]:
    """The fields of an example that some layout needs and that hold something else than null."""
    return frozenset(name for name in KNOWN & row.keys() if row[name] is not None)


def layout_of(present: frozenset[str]) -> Layout | None:
    """The layout of an example that has these of the `KNOWN` fields."""
    return next((layout for layout in LAYOUTS if present.issuperset(layout.fields)), None)


def content_digest(row: Mapping[str, Any], layout: Layout | None) -> bytes:
    """What two examples are compared by across files: see `NORMALISATION`."""
    values = row if layout is None else [row[name] for name in layout.content]
    text = json.dumps(_normal(values), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:DIGEST_BYTES]


def exact_digest(row: Mapping[str, Any], layout: Layout | None) -> bytes:
    """What two examples of one file are compared by: the fields of the layout, labels included, as they are."""
    values = row if layout is None else [row[name] for name in layout.fields]
    text = json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:DIGEST_BYTES]


def strings(value: Any) -> Iterator[str]:
    """Every text in a value, in order, keys left out; the value may nest as deep as the reader allows."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            stack.extend(reversed(cast("dict[str, Any]", item).values()))
        elif isinstance(item, list) and not _of_numbers(cast("list[Any]", item)):
            stack.extend(reversed(cast("list[Any]", item)))


def content_text(row: Mapping[str, Any], layout: Layout | None) -> str:
    """The text of an example that a model reads, its parts joined by one space; roles of a chat are left out."""
    if layout is None:
        return " ".join(strings(dict(row)))
    return " ".join(part for name in layout.content for part in strings(_spoken(row[name])))


def _spoken(value: object) -> object:
    """Of a chat the contents only."""
    if not isinstance(value, list):
        return value
    turns = cast("list[object]", value)
    chat = [cast("dict[str, object]", turn) for turn in turns if isinstance(turn, dict)]
    return [turn.get("content", turn.get("value")) for turn in chat] if len(chat) == len(turns) else turns


def _normal(value: object) -> object:
    if isinstance(value, str):
        return normal_text(value)
    if isinstance(value, dict):
        return {key: _normal(inner) for key, inner in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return items if _of_numbers(items) else [_normal(inner) for inner in items]
    return value


def normal_text(text: str) -> str:
    """A text after Unicode NFKC, with each run of white space as one space and none at the ends."""
    return " ".join((text if text.isascii() else unicodedata.normalize("NFKC", text)).split())


def _of_numbers(items: list[Any]) -> bool:
    """Whether a list is one of numbers, as far as its first and last show: those are long, and need no second look."""
    return bool(items) and isinstance(items[0], int | float) and isinstance(items[-1], int | float)
