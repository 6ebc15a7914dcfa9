"""The contract's page for people says what the schema says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gradience_schema import EVENT_TYPES, SCHEMA_ID, load_schema, registry, schema_files

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "telemetry-v1.md").read_text(encoding="utf-8")
EXAMPLES = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINES = [line for block in EXAMPLES.findall(PAGE) for line in block.splitlines()]
FILES = schema_files()


def names(schema: dict[str, Any]) -> set[str]:
    """Every property name under a schema, conditions left out."""
    found: set[str] = set()
    for key, inner in schema.items():
        if key == "properties":
            found |= set(inner)
        if key != "if" and key != "examples":
            for part in inner if isinstance(inner, list) else [inner]:
                found |= names(part) if isinstance(part, dict) else set()
    return found


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{json.loads(line)['event']}-{json.loads(line)['seq']}")
def test_every_example_line_is_valid(line: str) -> None:
    """Given an example line of the page, when validated, then it is a valid v1 record."""
    record = json.loads(line)
    assert record["schema"] == SCHEMA_ID
    assert list(Draft202012Validator(load_schema(), registry=registry()).iter_errors(record)) == []


def test_every_event_has_a_section_and_an_example() -> None:
    """Given the events of the schema, when looked for on the page, then each has its section and a line of it."""
    shown = {json.loads(line)["event"] for line in LINES}
    absent = [event for event in EVENT_TYPES if f"### `{event}`" not in PAGE or event not in shown]
    assert not absent, f"docs/telemetry-v1.md lacks a section or an example line for {absent}"


@pytest.mark.parametrize("name", FILES)
def test_every_field_is_on_the_page(name: str) -> None:
    """Given the fields of a schema file, when looked for on the page, then each is named there as code."""
    absent = sorted(field for field in names(FILES[name]) if f"`{field}`" not in PAGE)
    assert not absent, f"docs/telemetry-v1.md does not mention {absent}"


def test_every_choice_is_on_the_page() -> None:
    """Given the closed lists of names, when looked for on the page, then each name is there."""
    listed = [value for schema in FILES.values() for value in re.findall(r'"enum": (\[.*?\])', json.dumps(schema))]
    choices = {value for text in listed for value in json.loads(text) if value}
    assert {"critical", "aborted", "hard_reasoning", "-inf"} <= choices
    assert [value for value in choices if f"`{value}`" not in PAGE and f'`"{value}"`' not in PAGE] == []


def test_changes_name_every_addition() -> None:
    """Given the fields marked as added, when looked for in CHANGES.md, then each is listed."""
    changes = (ROOT / "schema/gradience_schema/telemetry/v1/CHANGES.md").read_text(encoding="utf-8")
    added = re.findall(r'"(\w+)": \{"description": "[^"]*Added (?:in v1 )?by gradience_emit', json.dumps(FILES))
    assert len(added) > 20
    assert [field for field in added if f"`{field}`" not in changes] == []
