"""Every record under fixtures/telemetry/v1 is accepted, or rejected for the named reason and no other."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gradience_schema import EVENT_TYPES, load_schema, registry, schema_files

FIXTURES = Path(__file__).parents[2] / "fixtures" / "telemetry" / "v1"
BESIDE_EVENTS = ("envelope", "unknown_event")
VALID = sorted((FIXTURES / "valid").glob("*/*.json"))
INVALID = sorted((FIXTURES / "invalid").glob("*/*.json"))


def name_of(path: Path) -> str:
    """Folder and case, for the test id."""
    return f"{path.parent.name}/{path.stem}"


def read(path: Path) -> Any:
    """The fixture."""
    return json.loads(path.read_text(encoding="utf-8"))


@functools.cache
def root() -> Draft202012Validator:
    """Validates any line."""
    return Draft202012Validator(load_schema(), registry=registry())


@functools.cache
def schema_of(folder: str) -> Draft202012Validator:
    """Validates the lines of one folder: its event's schema, or the envelope where there is no event."""
    schema = schema_files()["envelope.schema.json"] if folder in BESIDE_EVENTS else load_schema(folder)
    return Draft202012Validator(schema, registry=registry())


def errors_of(validator: Draft202012Validator, record: object) -> list[tuple[str, str]]:
    """Pointer (RFC 6901) and keyword of each error."""

    def pointer(path: Iterator[str | int]) -> str:
        return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)

    return sorted((pointer(iter(error.absolute_path)), error.validator) for error in validator.iter_errors(record))


@pytest.mark.parametrize("path", VALID, ids=name_of)
def test_valid_record_is_accepted(path: Path) -> None:
    """Given a valid record, when it is validated as a line and as its event, then nothing is reported."""
    record = read(path)
    assert errors_of(root(), record) == []
    assert errors_of(schema_of(path.parent.name), record) == []


@pytest.mark.parametrize("path", INVALID, ids=name_of)
def test_invalid_record_is_rejected_where_and_why_it_says(path: Path) -> None:
    """Given a record with one fault, when it is validated both ways, then exactly that fault is reported, once."""
    case = read(path)
    assert set(case) == {"why", "pointer", "keyword", "record"}
    assert case["why"]
    expected = [(case["pointer"], case["keyword"])]
    assert errors_of(root(), case["record"]) == expected
    assert errors_of(schema_of(path.parent.name), case["record"]) == expected


@pytest.mark.parametrize("folder", [*EVENT_TYPES, *BESIDE_EVENTS])
@pytest.mark.parametrize("side", ["valid", "invalid"])
def test_every_event_has_fixtures_of_both_sides(side: str, folder: str) -> None:
    """Given an event with a schema, when fixtures are collected, then it has accepted and rejected ones."""
    assert list((FIXTURES / side / folder).glob("*.json")), (
        f"add fixtures/telemetry/v1/{side}/{folder}/<case>.json: "
        + ("a plain record" if side == "valid" else '{"why": …, "pointer": …, "keyword": …, "record": …}')
    )


@pytest.mark.parametrize("side", ["valid", "invalid"])
def test_every_fixture_folder_has_a_schema(side: str) -> None:
    """Given the fixture folders, when compared with the event schemas, then each belongs to one."""
    folders = {path.name for path in (FIXTURES / side).iterdir()}
    strangers = folders - {*EVENT_TYPES, *BESIDE_EVENTS}
    assert not strangers, f"add telemetry/v1/events/<event>.schema.json for {sorted(strangers)}, or remove the folder"


@pytest.mark.parametrize("path", VALID, ids=name_of)
def test_valid_fixture_lies_in_the_folder_of_its_event(path: Path) -> None:
    """Given a valid record, when its event is compared with its folder, then they agree."""
    event = read(path)["event"]
    match path.parent.name:
        case "envelope":
            pass
        case "unknown_event":
            assert event not in EVENT_TYPES
        case folder:
            assert event == folder


def typed_slots(schema: dict[str, Any], files: dict[str, Any], home: str, at: str = "") -> Iterator[str]:
    """Pointers of the properties that a value can violate, through `$ref`, `allOf` and array items."""
    if "$ref" in schema:
        name, _, fragment = schema["$ref"].partition("#")
        home = str(Path("events" if home.startswith("events/") else ".") / name) if name else home
        home = home.replace("events/../", "")
        target = files[home]
        for part in fragment.split("/")[1:]:
            target = target[part]
        yield from typed_slots(target, files, home, at)
    for clause in schema.get("allOf", []):
        yield from typed_slots(clause, files, home, at)
    for key, slot in schema.get("properties", {}).items():
        if {"type", "enum"} & set(slot):
            yield f"{at}/{key}"
        yield from typed_slots(slot, files, home, f"{at}/{key}")
    if "properties" in schema.get("items", {}) or "$ref" in schema.get("items", {}):
        yield f"{at}/0"
        yield from typed_slots(schema["items"], files, home, f"{at}/0")


@pytest.mark.parametrize("event", EVENT_TYPES)
def test_every_required_key_and_typed_slot_has_an_invalid_fixture(event: str) -> None:
    """Given an event schema, when its rules are walked, then some fixture breaks each of them."""
    cases = [read(path) for path in INVALID if path.parent.name in (event, "envelope")]
    slots = set(typed_slots(load_schema(event), dict(schema_files()), f"events/{event}.schema.json"))
    assert {"/ts", "/run_id", "/step", "/seq"} <= slots
    uncovered = slots - {case["pointer"] for case in cases}
    assert not uncovered, f"add fixtures/telemetry/v1/invalid/{event}/ cases for {sorted(uncovered)}"
    required = set(load_schema(event)["$defs"]["payload"].get("required", []))
    missing = [case["record"] for case in cases if case["keyword"] == "required"]
    never_left_out = {key for key in required if not any(r.get("event") == event and key not in r for r in missing)}
    assert not never_left_out, f"add fixtures/telemetry/v1/invalid/{event}/ cases without {sorted(never_left_out)}"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@settings(deadline=None)
@given(data=st.data())
def test_root_and_event_schema_agree(data: st.DataObject) -> None:
    """Given a valid record with one field replaced by anything, when validated both ways, then the errors agree."""
    path = data.draw(st.sampled_from([path for path in VALID if path.parent.name in EVENT_TYPES]))
    record = read(path)
    key = data.draw(st.sampled_from(sorted(set(record) - {"event"})))
    record[key] = data.draw(JSON)
    assert errors_of(root(), record) == errors_of(schema_of(record["event"]), record)
