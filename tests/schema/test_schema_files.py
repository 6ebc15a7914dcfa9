"""The schema files themselves: valid, addressed, described, exemplified, and open to growth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gradience_schema import EVENT_TYPES, SCHEMA_ID, load_schema, registry, schema_files, schema_versions

BASE = "https://gradience.dev/schema/telemetry/v1/"
FILES = schema_files()
SUBSCHEMA_MAPS = ("properties", "$defs", "patternProperties", "dependentSchemas")
SUBSCHEMAS = ("items", "if", "then", "else", "not", "propertyNames", "additionalProperties")


def subschemas(schema: Any, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every subschema with its JSON pointer in the file, the file itself first."""
    if not isinstance(schema, dict):
        return
    yield at, schema
    for keyword in SUBSCHEMA_MAPS:
        for name, inner in schema.get(keyword, {}).items():
            yield from subschemas(inner, f"{at}/{keyword}/{name}")
    for keyword in SUBSCHEMAS:
        yield from subschemas(schema.get(keyword), f"{at}/{keyword}")
    for index, inner in enumerate(schema.get("allOf", [])):
        yield from subschemas(inner, f"{at}/allOf/{index}")


ALL = [(name, at, inner) for name, schema in FILES.items() for at, inner in subschemas(schema)]


def test_files_are_the_root_the_envelope_the_config_and_the_events() -> None:
    """Given version v1, when its files are listed, then there is the root, the shared parts, and one file per event."""
    shared = {"telemetry.schema.json", "envelope.schema.json", "config.schema.json"}
    assert set(FILES) == shared | {f"events/{event}.schema.json" for event in EVENT_TYPES}


def test_event_types_are_those_of_the_contract() -> None:
    """Given the contract's seven events, when the schema's are listed, then v1 still has each of them."""
    contract = {"run_start", "train_step", "eval", "metrics", "alert", "recommendation", "run_end"}
    assert contract <= set(EVENT_TYPES)
    assert list(EVENT_TYPES) == sorted(EVENT_TYPES)


def test_root_dispatches_on_every_event() -> None:
    """Given the event files, when compared with the root's clauses, then each has one, by if/then."""
    clauses = {
        event: {
            "if": {"type": "object", "properties": {"event": {"const": event}}, "required": ["event"]},
            "then": {"$ref": f"events/{event}.schema.json#/$defs/payload"},
        }
        for event in EVENT_TYPES
    }
    dispatch = load_schema()["allOf"]
    absent = [clause for clause in clauses.values() if clause not in dispatch]
    assert not absent, "add to allOf of telemetry/v1/telemetry.schema.json: " + json.dumps(absent)
    assert len(dispatch) == len(clauses), "telemetry.schema.json dispatches on an event that has no schema file"


@pytest.mark.parametrize("name", FILES)
def test_schema_is_valid_against_the_metaschema(name: str) -> None:
    """Given a schema file, when checked against draft 2020-12, then it is a schema, and says so."""
    assert FILES[name]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(FILES[name])


@pytest.mark.parametrize("name", FILES)
def test_schema_has_the_id_of_its_place(name: str) -> None:
    """Given a schema file, when its $id is read, then it is the base address and the file's path, and resolves."""
    assert FILES[name]["$id"] == BASE + name
    assert registry().contents(BASE + name) == FILES[name]
    assert FILES[name]["title"].startswith("telemetry/v1 ")


def test_every_ref_resolves() -> None:
    """Given each $ref, when looked up from its file through the registry, then something is there."""
    refs = [(name, inner["$ref"]) for name, _, inner in ALL if "$ref" in inner]
    assert len(refs) > 2 * len(EVENT_TYPES)
    for name, ref in refs:
        assert isinstance(registry().resolver(BASE + name).lookup(ref).contents, dict)


def test_every_property_says_what_it_is() -> None:
    """Given each property outside a condition, when read, then it has a description that ends as a sentence."""
    silent = [
        f"{name}#{at}/properties/{key}"
        for name, at, inner in ALL
        if "/if" not in at and not at.endswith("/then")
        for key, slot in inner.get("properties", {}).items()
        if not slot.get("description", "").endswith(".")
    ]
    assert silent == []


def test_every_file_and_typed_property_has_examples() -> None:
    """Given each file and each typed property, when read, then it shows at least one value."""
    bare = [name for name, schema in FILES.items() if not schema.get("examples")]
    bare += [
        f"{name}#{at}/properties/{key}"
        for name, at, inner in ALL
        if "/if" not in at
        for key, slot in inner.get("properties", {}).items()
        if {"type", "enum"} & set(slot) and not slot.get("examples")
    ]
    assert bare == []


def test_every_example_is_valid() -> None:
    """Given each example, when validated against the schema it stands in, then it is accepted."""
    shown = [(name, at, inner) for name, at, inner in ALL if "examples" in inner]
    assert len(shown) > 100
    for name, at, inner in shown:
        here = Draft202012Validator({"$ref": f"{BASE}{name}#{at}"}, registry=registry())
        for example in inner["examples"]:
            assert list(here.iter_errors(example)) == [], f"{name}#{at}"


@pytest.mark.parametrize("event", EVENT_TYPES)
def test_event_schema_takes_only_its_own_event(event: str) -> None:
    """Given an event's schema, when another event's record is validated against it, then `event` is what is wrong."""
    record = FILES[f"events/{event}.schema.json"]["examples"][0] | {"event": "something_else"}
    errors = Draft202012Validator(load_schema(event), registry=registry()).iter_errors(record)
    assert [(list(error.path), error.validator) for error in errors] == [(["event"], "const")]


def test_v1_stays_open() -> None:
    """Given every subschema, when read, then none forbids extra keys, and errors never come from a oneOf or anyOf."""
    for name, at, inner in ALL:
        assert not {"oneOf", "anyOf", "unevaluatedProperties", "patternProperties"} & set(inner), f"{name}#{at}"
        assert inner.get("additionalProperties") is not False, f"{name}#{at}"


def test_an_optional_field_may_be_null() -> None:
    """Given each optional payload slot, when it is null, then the record is valid: null means not given."""
    for event in EVENT_TYPES:
        schema = load_schema(event)
        payload = schema["$defs"]["payload"]
        optional = set(payload["properties"]) - set(payload.get("required", [])) - {"event"}
        record = schema["examples"][0] | dict.fromkeys(optional)
        assert Draft202012Validator(schema, registry=registry()).is_valid(record), event


# What v1 required when it was published: a list that must never change.
REQUIRED = {
    "envelope": {"schema", "ts", "run_id", "event", "step"},
    "run_start": {"config"},
    "train_step": set[str](),
    "eval": {"split", "metrics"},
    "metrics": {"kind", "metrics"},
    "alert": {"severity", "code", "message"},
    "recommendation": {"recommendations"},
    "run_end": {"status"},
}


@pytest.mark.parametrize("event", REQUIRED)
def test_v1_requires_what_it_always_did(event: str) -> None:
    """Given the required keys of the published v1, when compared with the files, then none was added or dropped."""
    schema = FILES["envelope.schema.json"] if event == "envelope" else load_schema(event)["$defs"]["payload"]
    assert set(schema.get("required", [])) == REQUIRED[event]


def test_identifier_and_folder_agree() -> None:
    """Given the identifier, when compared with the shipped versions, then its version is the one folder."""
    assert FILES["envelope.schema.json"]["properties"]["schema"]["const"] == SCHEMA_ID
    assert schema_versions() == (SCHEMA_ID.rpartition("/")[2],)
