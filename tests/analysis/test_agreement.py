"""Readers accept and refuse what the published schema does: on every fixture, and on 50,000 fuzzed lines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.telemetry.batches import BatchReader, Rows
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.read import EventReader
from gradience_schema import EVENT_TYPES, Severity
from tests.analysis import judge, mutations
from tests.analysis.reference import FOLDER
from tests.reliability.lengths import lengths

CHUNK = 2_500
FIXTURES = mutations.FIXTURES


def accepted(path: Path, reader_type: type[EventReader | BatchReader]) -> tuple[list[int], IssueLog]:
    """Lines of a file that gave an event."""
    log = IssueLog(keep_per_code=1_000_000)
    found: list[int] = []
    for batch in reader_type(path, log):
        found += range(batch.number, batch.number + len(batch.records)) if isinstance(batch, Rows) else [batch.line]
    return found, log


def check(path: Path, lines: list[bytes]) -> Counter[tuple[str, bool]]:
    """Both readers agree with the validator on every line; gives how many of each event were valid and not."""
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    valid = [judge.valid(line) for line in lines]
    wanted = [number for number, fine in enumerate(valid, 1) if fine]
    for reader_type in (EventReader, BatchReader):
        found, log = accepted(path, reader_type)
        wrong = sorted(set(found) ^ set(wanted))
        assert not wrong, (reader_type, [(valid[number - 1], lines[number - 1]) for number in wrong[:3]])
        assert found == wanted
        refused = {issue.line for issue in log.kept if issue.severity is Severity.ERROR}
        assert refused == {number for number, fine in enumerate(valid, 1) if not fine}
    return Counter((str(event_of(line)), fine) for line, fine in zip(lines, valid, strict=True))


def event_of(line: bytes) -> Any:
    """What a line says its event is."""
    value = json.loads(line)
    return value.get("event") if isinstance(value, dict) else None


@lengths("count", 50_000, 500_000)
def test_fuzzed_lines_are_judged_as_the_schema_judges_them(tmp_path: Path, count: int) -> None:
    """Given real records changed at random, when read, then accept or refuse equals the reference validator."""
    seen: Counter[tuple[str, bool]] = Counter()
    for chunk in range(count // CHUNK):
        seen += check(tmp_path / "run.jsonl", list(mutations.lines(seed=chunk, count=CHUNK)))
    assert seen.total() == count
    for event in EVENT_TYPES:
        assert seen[event, True] > count / 100
        assert seen[event, False] > count / 100


def texts(paths: Iterable[Path]) -> list[Any]:
    """Fixtures as parameters."""
    return [pytest.param(path, id="/".join(path.parts[-3:])) for path in paths]


@pytest.mark.parametrize("path", texts(sorted((FIXTURES / "telemetry" / "v1").glob("*/*/*.json"))))
def test_every_schema_fixture_is_judged_as_its_folder_says(tmp_path: Path, path: Path) -> None:
    """Given each schema fixture as a line, when read, then it is accepted as the schema, and its folder, have it."""
    item = json.loads(path.read_text(encoding="utf-8"))
    valid = path.parts[-3] == "valid"
    line = json.dumps(item if valid else item["record"]).encode()
    assert judge.valid(line) is valid
    check(tmp_path / "run.jsonl", [line])


@pytest.mark.parametrize(
    "path", texts([*sorted(FIXTURES.glob("runs/*/*.jsonl")), *sorted(FIXTURES.glob("sweep/*/*.jsonl"))])
)
def test_every_line_of_a_recorded_run_is_valid(tmp_path: Path, path: Path) -> None:
    """Given a run that our recorder wrote, when each line is judged, then readers and validator accept all."""
    seen = check(tmp_path / "run.jsonl", path.read_bytes().splitlines())
    assert all(fine for _, fine in seen)


@pytest.mark.parametrize("path", texts(sorted(FOLDER.glob("*.jsonl"))))
def test_every_line_of_a_reference_run_is_judged_alike(tmp_path: Path, path: Path) -> None:
    """Given a file of another emitter, when each line is judged, then readers and validator agree."""
    check(tmp_path / "run.jsonl", path.read_bytes().splitlines())
