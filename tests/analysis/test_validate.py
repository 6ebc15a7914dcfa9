"""The rules across lines, each tripped and not tripped, and the report of one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.telemetry.validate import ValidationReport, validate
from gradience_schema import Severity
from tests.analysis.records import end, evaluation, healthy_run, numbered, record, start, train, write
from tests.analysis.reference import FOLDER, FOREIGN, V1, needs_reference_runs


def check(folder: Path, records: Sequence[Any], **options: Any) -> ValidationReport:
    """The validation of a file with these records."""
    return validate(write(folder / "run.jsonl", records), **options)


def codes(report: ValidationReport) -> dict[str, int]:
    """Number of issues by code."""
    return {item.code: item.count for item in report.issue_counts}


AFTER_END = [
    evaluation(9, "test", ts=1001.0, loss=1.0),
    record("metrics", 3, ts=1002.0, kind="lora_audit", metrics={}),
    record("alert", None, ts=1003.0, severity="info", code="x", message="m"),
    record("recommendation", None, ts=1004.0, recommendations=[]),
]


@pytest.mark.parametrize(
    "records",
    [
        [start(), *train([1, 2, 3]), end()],
        [start(), *train([1, 2, 3]), end(), *AFTER_END],
        numbered([start(), *train([5, 5, 6]), end()]),
        [start(), *train([1], ts=10.0), *train([2], ts=9.2), end()],
        [start(), record("train_step", 1, lr=1.0), record("train_step", 2, lr=[1.0, 2.0]), end()],
        [start(), evaluation(1, "val", loss=1.0), evaluation(2, "val", loss=None), evaluation(3, "test", loss="n/a")],
        healthy_run(),
    ],
    ids=["plain", "events after run_end", "seq", "clock back under a second", "lr list", "null metric", "healthy"],
)
def test_what_the_contract_allows_gives_no_issue(tmp_path: Path, records: list[Any]) -> None:
    """Given a file within the contract, when validated, then it is ok and without an issue."""
    report = check(tmp_path, records)
    assert report.ok
    assert report.issues == ()


SEQ = numbered([start(), *train([1, 2, 3, 4]), end()])
BREACHES = {
    "no_run_start": (Severity.ERROR, [*train([1]), end()], 1),
    "second_run_start": (Severity.WARNING, [start(), *train([1]), start(ts=2.0), *train([2], ts=3.0)], 3),
    "after_run_end": (Severity.ERROR, [start(), end(), *train([1], ts=1001.0)], 3),
    "several_run_ids": (Severity.WARNING, [start(), *train([1], run_id="other"), *train([2])], 2),
    "ts_backwards": (Severity.WARNING, [start(), *train([1], ts=10.0), *train([2], ts=8.9), *train([3], ts=8.8)], 3),
    "step_backwards": (Severity.WARNING, [start(), *train([5, 6]), *train([2, 3], ts=4.0)], 4),
    "seq_gap": (Severity.ERROR, [*SEQ[:2], *SEQ[4:]], 3),
    "metric_type_changed": (
        Severity.WARNING,
        [start(), evaluation(1, "val", acc=0.5), evaluation(2, "val", acc="high"), evaluation(3, "val", acc=0.7)],
        3,
    ),
    "number_in_string": (
        Severity.WARNING,
        [start(), evaluation(1, "val", acc="0.5"), evaluation(2, "val", acc="1")],
        2,
    ),
}


@pytest.mark.parametrize("code", BREACHES)
def test_each_rule_has_its_code_place_and_severity(tmp_path: Path, code: str) -> None:
    """Given a file that breaks one rule once, when validated, then that rule alone speaks, at that line."""
    severity, records, line = BREACHES[code]
    report = check(tmp_path, records)
    assert codes(report) == {code: 1}
    assert (report.issues[0].line, report.issues[0].severity) == (line, severity)
    assert report.ok is (severity is Severity.WARNING)
    assert check(tmp_path, records, strict=True).ok is False
    assert check(tmp_path, records, cross_line=False).issues == ()


def test_second_run_end_and_repeated_seq_are_errors(tmp_path: Path) -> None:
    """Given two run_end records, and a seq that comes twice, when validated, then each is an error."""
    assert codes(check(tmp_path, [start(), end(), end(ts=1001.0)])) == {"after_run_end": 1}
    assert codes(check(tmp_path, [*SEQ[:3], SEQ[2], *SEQ[3:]])) == {"seq_gap": 1}


def test_a_damaged_line_explains_its_own_gap(tmp_path: Path) -> None:
    """Given a numbered file with damaged lines, when validated, then they are not reported as a gap as well."""
    records: list[Any] = list(numbered([start(), *train(range(1, 10)), end()]))
    records[3] = records[4] = b"oops"
    records[0] = b"oops"
    assert codes(check(tmp_path, records)) == {"invalid_json": 3}


def test_a_gap_larger_than_the_damage_is_reported(tmp_path: Path) -> None:
    """Given one damaged line and two absent ones in the same place, when validated, then two are lost."""
    records: list[Any] = list(numbered([start(), *train(range(1, 10)), end()]))
    records[3:6] = [b"oops"]
    report = check(tmp_path, records)
    assert codes(report) == {"invalid_json": 1, "seq_gap": 1}
    assert "2 lost" in next(issue for issue in report.issues if issue.code == "seq_gap").message


@pytest.mark.parametrize("data", [b"", b"\n\n", b"oops\n", b"\x00" * 100])
def test_file_without_an_event_is_never_ok(tmp_path: Path, data: bytes) -> None:
    """Given a file in which there is no valid event, when validated, then it is an error."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(data)
    report = validate(path)
    assert not report.ok
    assert "no_events" in codes(report)


def test_issues_beyond_the_cap_are_counted(tmp_path: Path) -> None:
    """Given more issues than are kept, when validated, then the counts are complete and the places in order."""
    report = check(tmp_path, [start(), *[b"oops"] * 50, *[b"\xff"] * 20, *train([1])], max_issues=3)
    assert codes(report) == {"invalid_json": 50, "invalid_utf8": 20}
    assert len(report.issues) == 6
    assert [issue.line for issue in report.issues] == sorted(issue.line or 0 for issue in report.issues)
    assert report.count(Severity.ERROR) == 70
    assert report.rejected == 70


def test_report_says_what_is_in_the_file(tmp_path: Path) -> None:
    """Given a file, when validated, then lines, bytes, events and runs are counted."""
    path = write(tmp_path / "run.jsonl", [start(), *train([1, 2]), end(), b""])
    report = validate(path)
    assert (report.lines, report.size) == (5, path.stat().st_size)
    assert report.events == {"run_start": 1, "train_step": 2, "run_end": 1}
    assert report.run_ids == ("run-1",)


@needs_reference_runs
@pytest.mark.parametrize("name", V1)
def test_reference_run_has_no_issue(name: str) -> None:
    """Given a real file of the other emitter, when validated, then it has no issue at all."""
    report = validate(FOLDER / name)
    assert report.issue_counts == ()
    assert sum(report.events.values()) == report.lines


@needs_reference_runs
@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_reference_file_is_named(name: str) -> None:
    """Given a real file in the early layout, when validated, then it is read, and an error says how to convert it."""
    report = validate(FOLDER / name)
    assert report.events["train_step"] > 0
    assert not report.ok
    (issue,) = [issue for issue in report.issues if issue.code == "foreign_layout"]
    assert f"gradience import {FOLDER / name} --out run.jsonl" in issue.message
