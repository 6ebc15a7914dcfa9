"""YAML text to a value, from PyYAML's events alone: no object is ever built from a tag, and no alias is followed.

The reader is that of YAML 1.1, as in the programs that will read the same file, so that what is a text to them is a
text here: `3e-4` is one, and comes as `Unquoted`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, cast

from gradience_analysis.sources.plain import MAX_DEPTH, TextFault, Unquoted, brief, whole_number

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(f"{_TAG}{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map"))
_TRUE = frozenset({"yes", "true", "on"})
_FALSE = frozenset({"no", "false", "off"})
_LONGEST_NUMBER = 400
_NOTHING_YET = object()


def parse_yaml(text: str) -> Any:
    """The value in a YAML text; None of an empty one.

    Raises:
        TextFault: It is not YAML, or has an alias, an anchor, a tag, a repeated key, several documents, or too
            many levels.
        ModuleNotFoundError: PyYAML is not installed.
    """
    yaml: Any = importlib.import_module("yaml")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    builder = _Builder(yaml)
    try:
        events: Iterator[Any] = yaml.parse(text, Loader=loader)
        for event in events:
            builder.take(type(event).__name__, event)
    except yaml.YAMLError as error:
        raise TextFault(f"is not YAML: {_what(error)}.") from error
    except RecursionError:
        raise TextFault("nests too deeply to be read.") from None
    return None if builder.root is _NOTHING_YET else builder.root


def _what(error: Any) -> str:
    """What PyYAML has to say, in one line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    where = "" if mark is None else f" at line {mark.line + 1:,}, column {mark.column + 1:,}"
    return f"{brief(str(problem), 120)[1:-1]}{where}"


class _Builder:
    """Builds the value of one document, event by event; no recursion, so that depth costs nothing."""

    def __init__(self, yaml: Any) -> None:
        self.root: Any = _NOTHING_YET
        self._resolve = yaml.resolver.Resolver().resolve
        self._numbers: Any = yaml.constructor.SafeConstructor()
        self._node: Any = yaml.ScalarNode
        self._open: list[list[Any] | dict[str, Any]] = []
        self._keys: list[str | None] = []  # of each open mapping the key that waits for its value; None of a sequence

    def take(self, kind: str, event: Any) -> None:
        if getattr(event, "anchor", None) is not None:
            what = "an alias" if kind == "AliasEvent" else "an anchor"
            raise TextFault(
                f"has {what} ({brief(str(event.anchor))}){_at(event)}.", "Write the value out in its place."
            )
        if kind == "DocumentStartEvent" and self.root is not _NOTHING_YET:
            raise TextFault("holds several documents.", "Give one configuration in one file.")
        if kind == "ScalarEvent":
            self._scalar(event)
        elif kind in {"SequenceStartEvent", "MappingStartEvent"}:
            self._start([] if kind == "SequenceStartEvent" else {}, event)
        elif kind in {"SequenceEndEvent", "MappingEndEvent"}:
            self._open.pop()
            self._keys.pop()

    def _start(self, holder: list[Any] | dict[str, Any], event: Any) -> None:
        _refuse_tag(event)
        if len(self._open) >= MAX_DEPTH:
            raise TextFault(f"nests deeper than {MAX_DEPTH} levels{_at(event)}.")
        if self._wants_key():
            raise TextFault(f"has a key that is a list or a mapping{_at(event)}.", "A key is a name.")
        self._put(holder)
        self._open.append(holder)
        self._keys.append(None)

    def _scalar(self, event: Any) -> None:
        _refuse_tag(event)
        if not self._wants_key():
            self._put(self._value(event))
            return
        key = str(event.value)
        if key == "<<" and event.implicit[0]:
            raise TextFault(f"has a merge key (<<){_at(event)}.", "Write the keys out in its place.")
        if key in cast("dict[str, Any]", self._open[-1]):
            raise TextFault(f"has the key {brief(key)} twice{_at(event)}.", "Keep the one that is meant.")
        self._keys[-1] = key

    def _wants_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1], dict) and self._keys[-1] is None

    def _put(self, value: Any) -> None:
        if not self._open:
            self.root = value
            return
        holder, key = self._open[-1], self._keys[-1]
        if isinstance(holder, dict):
            holder[cast("str", key)] = value
            self._keys[-1] = None
        else:
            holder.append(value)

    def _value(self, event: Any) -> Any:
        """A scalar as YAML 1.1 has it; dates stay texts."""
        text = str(event.value)
        tag = str(event.tag or self._resolve(self._node, text, event.implicit))
        if tag == f"{_TAG}null":
            return None
        if tag == f"{_TAG}bool":
            return self._flag(text, event)
        if tag in {f"{_TAG}int", f"{_TAG}float"}:
            return self._number(tag, text, event)
        return Unquoted(text) if event.implicit[0] else text

    def _flag(self, text: str, event: Any) -> bool:
        if text.lower() not in _TRUE | _FALSE:
            raise TextFault(f"has {brief(text)} for true or false{_at(event)}.")
        return text.lower() in _TRUE

    def _number(self, tag: str, text: str, event: Any) -> int | float:
        node = self._node(tag, text)
        # The digits of a number in base 60 (1:30:00) cost the square of how many there are.
        if len(text) > _LONGEST_NUMBER:
            raise TextFault(f"has {brief(text)} for a number{_at(event)}.")
        try:
            if tag == f"{_TAG}int":
                return whole_number(str(self._numbers.construct_yaml_int(node)))
            return cast("float", self._numbers.construct_yaml_float(node))
        except TextFault:
            raise
        except (ValueError, OverflowError, IndexError):
            raise TextFault(f"has {brief(text)} for a number{_at(event)}.") from None


def _refuse_tag(event: Any) -> None:
    if event.tag is not None and event.tag != "!" and event.tag not in _PLAIN_TAGS:
        raise TextFault(
            f"has the tag {brief(str(event.tag))}{_at(event)}.",
            "Settings are plain values; no tag is followed.",
        )


def _at(event: Any) -> str:
    mark = event.start_mark
    return "" if mark is None else f" at line {mark.line + 1:,}, column {mark.column + 1:,}"
