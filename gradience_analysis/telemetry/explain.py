"""Says in plain words what the published schema holds against a record. Slow, and only for what does not fit."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import jsonschema

from gradience_analysis.model.pointer import pointer_part
from gradience_schema import EVENT_TYPES, load_schema, registry, schema_files

MAX_FAULTS = 5
# A megabyte has room for half a million faults, and jsonschema takes its time for each.
_MAX_EXAMINED = 1_000
_CODES = {"required": "missing_field", "type": "wrong_type"}
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which a record breaks the schema: issue code, sentence, JSON pointer and keyword."""

    code: str
    message: str
    pointer: str
    keyword: str


def explain(record: Mapping[str, Any]) -> list[Fault]:
    """The first faults of a record, in order of their place; empty when the schema accepts it after all."""
    event = record.get("event")
    name = event if isinstance(event, str) and event in EVENT_TYPES else None
    errors: Iterator[Any] = _validator(name).iter_errors(record)
    faults = {
        (fault.pointer, fault.keyword, fault.message): fault
        for fault in map(_fault, itertools.islice(errors, _MAX_EXAMINED))
    }
    return sorted(faults.values(), key=lambda fault: (fault.pointer, fault.keyword))[:MAX_FAULTS]


@functools.cache
def _validator(event: str | None) -> Any:
    """A validator for one known event, or for any record that has none.

    Envelope and payload are merged into one schema: the library follows a reference anew for every record, which takes
    longer than all the rest. The event's own schema, because an error of the dispatching root would speak of branches.
    """
    envelope = schema_files()["envelope.schema.json"]
    if event is None:
        return jsonschema.Draft202012Validator(envelope, registry=cast("Any", registry()))
    whole = load_schema(event)
    payload = whole["$defs"]["payload"]
    # What both speak of must satisfy both.
    shared = {
        name: {"allOf": [envelope["properties"][name], rules]}
        for name, rules in payload["properties"].items()
        if name in envelope["properties"]
    }
    merged = {
        **payload,
        "$id": whole["$id"],
        "$defs": whole["$defs"],
        "type": envelope["type"],
        "required": [*envelope["required"], *payload.get("required", ())],
        "properties": {**envelope["properties"], **payload["properties"], **shared},
    }
    return jsonschema.Draft202012Validator(merged, registry=cast("Any", registry()))


def _fault(error: Any) -> Fault:
    pointer = "".join(f"/{pointer_part(str(part))}" for part in error.absolute_path)
    keyword = str(error.validator)
    return Fault(_CODES.get(keyword, "bad_value"), _sentence(error, pointer or "the record"), pointer, keyword)


def _sentence(error: Any, where: str) -> str:
    keyword, wanted, got = str(error.validator), error.validator_value, error.instance
    words = _WORDS.get(keyword)
    return f"{where} breaks the rule {keyword!r}." if words is None else f"{where} {words(wanted, got)}."


def _lacks(wanted: Any, got: Any) -> str:
    absent = [name for name in wanted if name not in got]
    return f"lacks the required field{'s' if len(absent) > 1 else ''} {', '.join(map(repr, absent))}"


def _is_not_of_type(wanted: Any, got: Any) -> str:
    names: list[str] = [wanted] if isinstance(wanted, str) else list(wanted)
    return f"must be {_either(names)}, not {_shown(got)}"


_WORDS: Mapping[str, Callable[[Any, Any], str]] = {
    "required": _lacks,
    "type": _is_not_of_type,
    "enum": lambda wanted, got: f"must be one of {', '.join(map(str, wanted))}, not {_shown(got)}",
    "const": lambda wanted, got: f"must be {wanted!r}, not {_shown(got)}",
    "minimum": lambda wanted, got: f"must be at least {wanted}, not {_shown(got)}",
    "minLength": lambda wanted, got: "must not be empty",  # noqa: ARG005
    "minItems": lambda wanted, got: f"must have {wanted} entries, not {len(got)}",
    "maxItems": lambda wanted, got: f"must have {wanted} entries, not {len(got)}",
    "pattern": lambda wanted, got: f"must have JSON pointers as its keys, not {_shown(got)}",  # noqa: ARG005
}


def _either(names: list[str]) -> str:
    return " or ".join("null" if name == "null" else f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names)


def _shown(value: Any) -> str:
    """The JSON type of a value, with the value itself when it is small."""
    if value is None:
        return "null"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    kind = "boolean" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
    text = repr(value)
    return f"the {kind} {text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}"
