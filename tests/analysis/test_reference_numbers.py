"""Real files of the format: nothing is said of them that is not so, and no number in them changes by a bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.model import Event
from gradience_analysis.tables.read_file import read_file
from gradience_analysis.telemetry.batches import BatchReader, Rows
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.read import EventReader
from gradience_analysis.telemetry.validate import validate
from tests.analysis.reference import FOLDER, V1, needs_reference_runs

ENVELOPE = {"schema", "ts", "run_id", "event", "step", "seq"}
ROOT = Path(__file__).resolve().parents[2]
OURS = sorted([*ROOT.glob("fixtures/runs/*/*.jsonl"), *ROOT.glob("fixtures/sweep/*/*.jsonl")])


def bits(value: Any) -> Any:
    """A value in which two numbers are equal only when type and bits are."""
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    if isinstance(value, list):
        return [bits(item) for item in value]
    return f"{type(value).__name__} {value.hex() if isinstance(value, float) else value!r}"


def expected(path: Path) -> list[Any]:
    """What `json` reads in each line, the envelope apart."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        (
            item["event"],
            float(item["ts"]).hex(),
            item["run_id"],
            item["step"],
            bits({k: v for k, v in item.items() if k not in ENVELOPE}),
        )
        for item in records
    ]


def given(events: list[Event]) -> list[Any]:
    """The same of events; where a value was not finite, the file has null."""
    return [(event.event, event.ts.hex(), event.run_id, event.step, bits(dict(event.payload))) for event in events]


def both_ways(path: Path) -> list[list[Event]]:
    """The events of a file, read line by line and in blocks."""
    batches = BatchReader(path, IssueLog())
    return [
        list(EventReader(path, IssueLog())),
        [event for batch in batches for event in (batch.events() if isinstance(batch, Rows) else (batch,))],
    ]


@needs_reference_runs
@pytest.mark.parametrize("name", V1)
def test_reference_file_has_no_issue(name: str) -> None:
    """Given a real file of the earlier emitter, when validated strictly, then there is nothing to say."""
    report = validate(FOLDER / name, strict=True)
    assert report.issue_counts == ()
    assert sum(report.events.values()) == len((FOLDER / name).read_text(encoding="utf-8").splitlines())


@needs_reference_runs
@pytest.mark.parametrize("name", V1)
def test_reference_numbers_are_those_of_json(name: str) -> None:
    """Given a real file of the earlier emitter, when read either way, then every value has type and bits of `json`."""
    for events in both_ways(FOLDER / name):
        assert given(events) == expected(FOLDER / name)


@needs_reference_runs
@pytest.mark.parametrize("name", V1)
def test_reference_metrics_are_those_of_json(name: str) -> None:
    """Given a real file with evaluations and an audit, when read as tables, then each leaf has the value of `json`."""
    records = [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]
    for table, event in (("evals", "eval"), ("metrics", "metrics")):
        rows = getattr(read_file(FOLDER / name), table).to_pylist()
        leaves = [leaf for item in records if item["event"] == event for leaf in flat(item["metrics"])]
        found = [(row["metric"], row["value"] if row["value"] is not None else json.loads(row["text"])) for row in rows]
        assert found == leaves


def flat(value: dict[str, Any], lead: str = "") -> list[tuple[str, Any]]:
    """The leaves of nested metrics with their dotted names."""
    return [
        leaf
        for name, item in value.items()
        for leaf in (flat(item, f"{lead}{name}.") if isinstance(item, dict) and item else [(f"{lead}{name}", item)])
    ]


@pytest.mark.parametrize("path", OURS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_numbers_of_our_own_runs_are_those_of_json(path: Path) -> None:
    """Given a run that our callback recorded, when read either way, then every finite value is that of `json`."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    plain = [place for place, item in enumerate(records) if "nonfinite" not in item]
    assert plain
    wanted = expected(path)
    for events in both_ways(path):
        got = given(events)
        assert len(got) == len(wanted)
        assert [got[place] for place in plain] == [wanted[place] for place in plain]
