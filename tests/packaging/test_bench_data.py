"""The data of the benchmarks: it is telemetry, and what is said to be damaged in it is what is damaged."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from gradience_analysis.telemetry.validate import iter_issues, validate

ROOT = Path(__file__).resolve().parents[2]
CODES = {
    "torn": "invalid_json",
    "invalid UTF-8": "invalid_utf8",
    "wrong type": "wrong_type",
    "missing field": "missing_field",
    "NaN token": "nonfinite_token",
}


@pytest.fixture(scope="module")
def telemetry() -> ModuleType:
    """The module that writes the data."""
    spec = importlib.util.spec_from_file_location("bench_telemetry", ROOT / "benchmarks" / "_telemetry.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("lines", [5, 6, 500, 505, 506, 507, 2_000])
def test_a_run_is_telemetry_without_a_fault(telemetry: ModuleType, tmp_path: Path, lines: int) -> None:
    """Given a length, when a run is written, then it has that many lines, all of them valid, and no issue at all."""
    path = tmp_path / "run.jsonl"
    telemetry.write_file(path, lines, number=3)
    report = validate(path)
    assert report.lines == lines == sum(report.events.values())
    assert not report.issues
    assert report.events["run_start"] == report.events["run_end"] == 1
    assert report.events["eval"] >= 2


def test_a_line_is_written_as_the_emitter_writes_it(telemetry: ModuleType) -> None:
    """Given a run, when its lines are read back, then none has spare white space, and their mean size is as said."""
    lines = list(telemetry.run_lines(1, 2_000))
    for line in lines:
        text = line.decode()
        assert len(json.dumps(json.loads(text), separators=(",", ":"))) == len(text) - 1
    assert sum(map(len, lines)) / len(lines) == pytest.approx(telemetry.LINE_BYTES, rel=0.05)
    assert lines == list(telemetry.run_lines(1, 2_000))
    assert lines[1] != next(line for line in list(telemetry.run_lines(2, 500))[1:])


@pytest.mark.parametrize("kind", CODES)
def test_exactly_the_lines_said_to_be_damaged_are(telemetry: ModuleType, tmp_path: Path, kind: str) -> None:
    """Given one kind of damage, when a file is damaged, then those lines and no others have the issue it leads to."""
    path, bad = tmp_path / "run.jsonl", tmp_path / "bad.jsonl"
    telemetry.write_file(path, 1_000)
    damaged = telemetry.damage(path, bad, [kind], share=0.05)
    assert set(damaged.values()) == {kind}
    pairs = zip(path.read_bytes().split(b"\n"), bad.read_bytes().split(b"\n"), strict=True)
    assert list(damaged) == [number for number, (one, other) in enumerate(pairs, 1) if one != other]
    found = list(iter_issues(bad))
    assert [issue.line for issue in found] == list(damaged)
    assert {issue.code for issue in found} == {CODES[kind]}


def test_the_files_of_a_benchmark_are_written_once(telemetry: ModuleType, tmp_path: Path) -> None:
    """Given a folder, when the data is prepared twice, then the second call finds it, with the same damaged lines."""
    data = telemetry.prepare(tmp_path, 2_000)
    assert sum(1 for _ in data.runs.iterdir()) == 4
    assert sum(path.read_bytes().count(b"\n") for path in data.runs.iterdir()) == 2_000
    before = data.bad.stat().st_mtime_ns
    again = telemetry.prepare(tmp_path, 2_000)
    assert again.bad.stat().st_mtime_ns == before
    assert set(Counter(again.damaged.values())) == set(CODES)
    assert set(again.damaged) == {issue.line for issue in iter_issues(data.bad)}
