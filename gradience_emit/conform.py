"""Fits a normalised payload to the published schema of its event, so that every written line is valid.

The types come from the schema files themselves. A value of the wrong type is not lost: it moves to ``x_<field>`` and
the event's ``renamed`` says so. A required field that is missing, or was moved, gets the most cautious value there is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import gradience_schema
from gradience_emit.encode import Notes, is_number, pointer_to

__all__ = ["conform", "is_known", "strict_fields"]

_Json = dict[str, Any]
_CAUTIOUS: Final[Mapping[str, Any]] = {"severity": "error", "status": "error", "message": "", "code": "UNKNOWN"}
_EMPTY: Final[Mapping[str, Callable[[], Any]]] = {"object": dict, "array": list}

_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": is_number,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


@dataclass(frozen=True, slots=True)
class _Slot:
    """One field of the schema, ready to test a value.

    Attributes:
        accepts: whether a normalised value is valid here.
        inner: the fields of an object that is repaired member by member; None for anything else.
    """

    accepts: Callable[[Any], bool]
    inner: Mapping[str, _Slot] | None


def is_known(event: str) -> bool:
    """Whether ``event`` has a schema in v1."""
    return event in _known_events()


def conform(event: str, tree: _Json, notes: Notes) -> None:
    """Make ``tree`` (a normalised payload) valid for ``event``, in place; ``notes`` takes what was moved."""
    if not is_known(event):
        return
    slots, missing = _payload(event)
    _repair(tree, slots, [], notes)
    for key, empty in missing.items():
        if key not in tree:
            tree[key] = empty()


@functools.cache
def strict_fields(event: str) -> frozenset[str] | None:
    """The fields of a known ``event`` in which not every number is valid; None when it has required fields.

    A payload of numbers that touches none of them needs no `conform`: the common training step does not pay for it.
    """
    slots, required = _payload(event)
    if required:
        return None
    return frozenset(key for key, slot in slots.items() if not all(map(slot.accepts, (None, -1, -1.0, 1e300))))


@functools.cache
def _known_events() -> frozenset[str]:
    return frozenset(gradience_schema.EVENT_TYPES)


@functools.cache
def _payload(event: str) -> tuple[Mapping[str, _Slot], Mapping[str, Callable[[], Any]]]:
    """The fields of a known event's payload and what stands for each required one.

    A required field that was not given gets ``error`` for a severity or a status, else something empty.
    """
    root = _documents()[f"events/{event}.schema.json"]
    payload = root["$defs"]["payload"]
    properties = {key: schema for key, schema in payload["properties"].items() if key != "event"}
    slots = {key: _compile(schema, root) for key, schema in properties.items()}
    return slots, {
        key: _substitute(key, _resolve(properties.get(key, {}), root)[0]) for key in payload.get("required", ())
    }


def _substitute(key: str, schema: _Json) -> Callable[[], Any]:
    cautious = _CAUTIOUS.get(key, "unknown")
    return _EMPTY.get(schema.get("type", ""), lambda: cautious)


def _repair(tree: _Json, slots: Mapping[str, _Slot], path: list[str], notes: Notes) -> None:
    misplaced: list[str] = []
    for key, value in tree.items():
        slot = slots.get(key)
        if slot is None:
            continue
        if slot.inner is not None and isinstance(value, dict):
            _repair(cast("_Json", value), slot.inner, [*path, key], notes)
        if not slot.accepts(value):
            misplaced.append(key)
    for key in misplaced:
        free = f"x_{key}"
        while free in tree:
            free = f"x_{free}"
        tree[free] = tree.pop(key)
        moved_to = pointer_to([*path, free])
        notes.move(pointer_to([*path, key]), moved_to)
        notes.renamed[moved_to] = key


@functools.cache
def _documents() -> Mapping[str, _Json]:
    return gradience_schema.schema_files()


def _resolve(schema: _Json, root: _Json) -> tuple[_Json, _Json]:
    """A schema with its ``$ref`` followed, and the document that its own local references are relative to."""
    reference = schema.get("$ref")
    if reference is None:
        return schema, root
    document, _, fragment = reference.partition("#")
    home = _documents()[document.removeprefix("../")] if document else root
    target = home
    for part in filter(None, fragment.split("/")):
        target = target[part]
    return target, home


def _compile(schema: _Json, root: _Json) -> _Slot:
    schema, root = _resolve(schema, root)
    properties = schema.get("properties")
    inner = {key: _compile(member, root) for key, member in properties.items()} if properties else None
    return _Slot(_acceptor(schema, root), inner)


def _acceptor(schema: _Json, root: _Json) -> Callable[[Any], bool]:
    """A test for the keywords that the payload schemas use; a contract test holds it against a real validator."""
    schema, root = _resolve(schema, root)
    tests: list[Callable[[Any], bool]] = []
    names = schema.get("type")
    if names is not None:
        allowed = tuple(_TYPES[name] for name in ([names] if isinstance(names, str) else names))
        tests.append(allowed[0] if len(allowed) == 1 else lambda value: any(test(value) for test in allowed))
    if "enum" in schema:
        choices = schema["enum"]
        tests.append(lambda value: value in choices)
    if "items" in schema or "minItems" in schema or "maxItems" in schema:
        tests.append(_list_test(schema, root))
    if "properties" in schema or "additionalProperties" in schema:
        tests.append(_object_test(schema, root))
    if "minimum" in schema:
        least = schema["minimum"]
        tests.append(lambda value: not isinstance(value, (int, float)) or value >= least)
    if "maximum" in schema:
        most = schema["maximum"]
        tests.append(lambda value: not isinstance(value, (int, float)) or value <= most)
    if "minLength" in schema:
        shortest = schema["minLength"]
        tests.append(lambda value: not isinstance(value, str) or len(value) >= shortest)
    return tests[0] if len(tests) == 1 else lambda value: all(test(value) for test in tests)


def _list_test(schema: _Json, root: _Json) -> Callable[[Any], bool]:
    item = _acceptor(schema.get("items", {}), root)
    least, most = schema.get("minItems", 0), schema.get("maxItems", float("inf"))

    def test(value: Any) -> bool:
        if not isinstance(value, list):
            return True
        values = cast("list[Any]", value)
        return least <= len(values) <= most and all(map(item, values))

    return test


def _object_test(schema: _Json, root: _Json) -> Callable[[Any], bool]:
    members = {key: _acceptor(member, root) for key, member in schema.get("properties", {}).items()}
    others = _acceptor(schema.get("additionalProperties", {}), root)

    def test(value: Any) -> bool:
        if not isinstance(value, dict):
            return True
        return all(members.get(key, others)(member) for key, member in cast("_Json", value).items())

    return test
