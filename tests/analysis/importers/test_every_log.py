"""What holds for every importer, on every committed log: recognition, the contract, order, and small files."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from gradience_analysis.importers import find_importer
from gradience_schema import load_schema, registry
from tests.analysis.importers.foreign import FOLDER, LOGS, codes, of, read, record

BY_TOOL = {
    "transformers": "hf-trainer-state",
    "trl": "hf-trainer-state",
    "llama_factory": "llama-factory",
    "lightning": "lightning-csv",
}
VALIDATOR = Draft202012Validator(load_schema(), registry=registry())


def shown(path: Path) -> str:
    """The path below the fixtures."""
    return path.relative_to(FOLDER).as_posix()


def test_there_are_logs_of_every_tool_and_they_are_small() -> None:
    """Given the folder of foreign logs, when it is listed, then each tool has some, and together they are small."""
    assert {path.relative_to(FOLDER).parts[0] for path in LOGS} == set(BY_TOOL)
    assert sum(path.stat().st_size for path in LOGS) < 150_000


@pytest.mark.parametrize("path", LOGS, ids=shown)
def test_its_format_is_recognised(path: Path) -> None:
    """Given a log that a tool wrote, when its importer is looked for, then it is that tool's."""
    found = find_importer(path)
    assert found is not None
    assert found.name == BY_TOOL[path.relative_to(FOLDER).parts[0]]


@pytest.mark.parametrize("path", LOGS, ids=shown)
def test_every_event_is_accepted_by_the_published_schema(path: Path) -> None:
    """Given a log that a tool wrote, when it is read, then the published schema accepts every event."""
    events, _ = read(path)
    faults = [error.message for event in events for error in VALIDATOR.iter_errors(record(event))]
    assert not faults


@pytest.mark.parametrize("path", LOGS, ids=shown)
def test_a_run_starts_once_a_segment_and_is_counted_through(path: Path) -> None:
    """Given a log, when it is read, then run_start opens each segment, seq counts within it and ts through them all."""
    events, issues = read(path)
    starts = of(events, "run_start")
    assert events[0] is starts[0]
    assert [event.ts for event in events] == [float(place) for place in range(len(events))]
    assert [start.payload["meta"].get("segment", 0) for start in starts] == list(range(len(starts)))
    seqs = [event.seq for event in events]
    expected = []
    for event in events:
        expected.append(0 if event.event == "run_start" else expected[-1] + 1)
    assert seqs == expected
    assert {event.run_id for event in events} == {starts[0].run_id}
    assert starts[0].payload["meta"]["ts_source"] == "order"
    assert codes(issues, but=()).count("no_timestamps") == 1


@pytest.mark.parametrize("path", LOGS, ids=shown)
def test_a_compressed_log_reads_the_same(path: Path, tmp_path: Path) -> None:
    """Given a log compressed with gzip, when it is read, then its events are those of the log itself."""
    packed = tmp_path / f"{path.name}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert [record(event) | {"run_id": "", "meta": ""} for event in read(packed)[0]] == [
        record(event) | {"run_id": "", "meta": ""} for event in read(path)[0]
    ]


def test_the_run_id_is_that_of_the_file(tmp_path: Path) -> None:
    """Given a log that grows, and its copy, when read, then the log keeps its run id and the copy has another."""
    first, copy = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    lines = (FOLDER / "llama_factory" / "current" / "trainer_log.jsonl").read_bytes().splitlines(keepends=True)
    first.write_bytes(b"".join(lines[:3]))
    before = read(first)[0][0].run_id
    first.write_bytes(b"".join(lines))
    copy.write_bytes(b"".join(lines))
    assert read(first)[0][0].run_id == before
    assert read(tmp_path / "." / "a.jsonl")[0][0].run_id == before
    assert read(copy)[0][0].run_id != before
