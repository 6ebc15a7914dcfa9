"""Real files of the other emitter, when they are at hand: what was valid stays valid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from gradience_schema import EVENT_TYPES, SCHEMA_ID, ConfigSnapshot, load_schema, registry

RUNS = Path(__file__).parents[3] / "shared" / "data" / "reference_runs"
pytestmark = pytest.mark.skipif(not RUNS.is_dir(), reason="the reference runs are not beside this checkout")
FILES = sorted(RUNS.glob("*.jsonl"))
FOREIGN = [path for path in FILES if path.name.startswith("examples_telemetry_")]
V1 = [path for path in FILES if path not in FOREIGN]


def records(path: Path) -> list[dict[str, object]]:
    """The records of a file, blank lines left out."""
    return [json.loads(line) for line in path.read_bytes().splitlines() if line.strip()]


@pytest.mark.parametrize("path", V1, ids=lambda path: path.stem)
def test_every_line_is_valid(path: Path) -> None:
    """Given a file of the other emitter, when each line is validated both ways, then there is no error."""
    root = Draft202012Validator(load_schema(), registry=registry())
    by_event = {event: Draft202012Validator(load_schema(event), registry=registry()) for event in EVENT_TYPES}
    for record in records(path):
        assert record["schema"] == SCHEMA_ID
        assert list(root.iter_errors(record)) == []
        assert list(by_event[str(record["event"])].iter_errors(record)) == []


@pytest.mark.parametrize("path", V1, ids=lambda path: path.stem)
def test_config_is_read_without_loss(path: Path) -> None:
    """Given the other emitter's config, when read into a snapshot and written again, then it is what it was."""
    starts = [record for record in records(path) if record["event"] == "run_start"]
    assert starts
    for start in starts:
        config = start["config"]
        assert isinstance(config, dict)
        assert ConfigSnapshot.from_dict(config).to_dict() == config


@pytest.mark.parametrize("path", FOREIGN, ids=lambda path: path.stem)
def test_foreign_layout_is_not_taken_for_v1(path: Path) -> None:
    """Given a file in the older layout, when each line is validated, then each lacks the envelope."""
    root = Draft202012Validator(load_schema(), registry=registry())
    for record in records(path):
        assert "required" in {error.validator for error in root.iter_errors(record)}
