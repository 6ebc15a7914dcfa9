"""What a damaged or mistaken file shows: each fault once, by its own rule, with its place."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.diagnostics import Diagnosis
from gradience_analysis.errors import InputError, NoTelemetryError
from gradience_analysis.telemetry.assemble import load_run
from gradience_schema import Severity
from tests.analysis.diagnostics.machine import T0, began, by_code, diagnosed, ended, findings, judged, steps
from tests.analysis.records import end as at_end
from tests.analysis.records import evaluation, numbered, record, start, train, write

V2 = "gradience.vnext.telemetry/v2"


def of_bytes(folder: Path, data: bytes) -> Diagnosis:
    """What is measured and found in a file of these bytes."""
    path = folder / "run.jsonl"
    path.write_bytes(data)
    return judged(path)


def sound() -> bytes:
    """A run of ten steps."""
    return b"".join(json.dumps(one).encode() + b"\n" for one in [began(), *steps(10), ended()])


def test_lost_records_are_counted_once(tmp_path: Path) -> None:
    """Given a refused line, a gap of two and a drop of two, when measured, then three records are lost."""
    rows: list[Any] = numbered([start(), *train(range(1, 10)), at_end()])
    rows[8] = {**rows[8], "dropped_events": 2}
    rows[4:6] = []
    rows[2] = b"oops"
    diagnosis = judged(write(tmp_path / "run.jsonl", rows), now=None)
    lost = diagnosis.measurement("events_lost")
    assert (lost.value, lost.details["rejected_lines"], lost.details["seq_gaps"]) == (3, 1, 2)
    found = by_code(diagnosis.findings)
    assert {code: finding.severity for code, finding in found.items()} == {
        "malformed_line": Severity.ERROR,
        "events_missing": Severity.ERROR,
    }
    assert found["malformed_line"].places[0].line == 3
    assert found["events_missing"].evidence["seq_gaps"] == 2


def test_faults_and_broken_rules_are_said(tmp_path: Path) -> None:
    """Given survived faults, and an error that cost no record, when diagnosed, then each is said."""
    rows = [start(), record("train_step", 1, loss=1.0, telemetry_faults=2), at_end(), *train([2], ts=1001.0)]
    found = by_code(judged(write(tmp_path / "run.jsonl", rows), now=None).findings)
    assert {code: finding.severity for code, finding in found.items()} == {
        "contract_broken": Severity.WARNING,
        "telemetry_faults": Severity.INFO,
    }
    assert "after_run_end" in found["contract_broken"].message


@pytest.mark.parametrize(
    ("line", "code", "rule"),
    [
        (b"oops", "malformed_line", "Q03"),
        (b'{"a": "\xff"}', "malformed_line", "Q03"),
        (b"[" * 100_000, "malformed_line", "Q03"),
        (b"[1, 2]", "malformed_line", "Q03"),
        (b"\x00" * 512, "wrong_encoding", "Q07"),
        (b'{"x": "' + b"x" * (1 << 20) + b'"}', "line_too_long", "Q06"),
        (json.dumps({**evaluation(5, "val"), "schema": V2}).encode(), "unknown_schema_version", "V06"),
        (json.dumps({**evaluation(5, "val"), "step": "5"}).encode(), "step_invalid", "V07"),
        (json.dumps({**evaluation(5, "val"), "step": 5.5}).encode(), "step_invalid", "V07"),
        (json.dumps({**evaluation(5, "val"), "ts": "now"}).encode(), "events_lost", ""),
        (json.dumps({**evaluation(5, "val"), "run_id": ""}).encode(), "events_lost", ""),
    ],
)
def test_a_refused_line_is_said_once_by_its_own_rule(tmp_path: Path, line: bytes, code: str, rule: str) -> None:
    """Given one line that cannot be read, when diagnosed, then one finding names its line, and no general one does."""
    rows: list[Any] = [began(), *steps(10), line, ended()]
    diagnosis = diagnosed(tmp_path, rows)
    (finding,) = diagnosis.findings
    assert (finding.code, finding.rule) == (code, rule)
    assert [place.line for place in finding.places] == [12]
    assert diagnosis.measurement("events_lost").value == 1


def test_two_faults_of_a_kind_are_one_finding(tmp_path: Path) -> None:
    """Given seven bad lines of two kinds, when diagnosed, then one finding counts each, with the first five places."""
    rows: list[Any] = [began(), *[b"oops", b"\xff", *steps(3)] * 3, b"oops", *steps(10), ended()]
    finding = by_code(findings(tmp_path, rows))["malformed_line"]
    assert (finding.evidence["invalid_json"], finding.evidence["invalid_utf8"]) == (4, 3)
    assert [place.line for place in finding.places] == [2, 3, 7, 8, 12]


@pytest.mark.parametrize(("cut", "words"), [(1, "1 complete, nothing lost"), (20, "1 cut off, the event lost")])
def test_a_tail_without_its_newline(tmp_path: Path, cut: int, words: str) -> None:
    """Given a last line that lacks its newline, or more, when diagnosed, then it says whether its event is lost."""
    found = by_code(of_bytes(tmp_path, sound()[:-cut]).findings)
    assert words in found["torn_tail"].message
    assert "malformed_line" not in found


def test_a_torn_tail_of_each_segment_counts(tmp_path: Path) -> None:
    """Given two segments that were both cut off, when diagnosed, then both files are counted."""
    (tmp_path / "run.jsonl").write_bytes(sound()[:-40])
    (tmp_path / "run.1.jsonl").write_bytes(sound().replace(b'"meta": {}', b'"meta": {"segment": 1}')[:-40])
    assert judged(tmp_path).measurement("torn_tail").value == 2


def test_a_byte_order_mark_costs_nothing_and_is_said(tmp_path: Path) -> None:
    """Given a file that starts with a BOM, when diagnosed, then all records are there and the encoding is wrong."""
    diagnosis = of_bytes(tmp_path, b"\xef\xbb\xbf" + sound())
    (finding,) = diagnosis.findings
    assert (finding.code, finding.severity) == ("wrong_encoding", Severity.ERROR)
    assert diagnosis.measurement("events_lost").value == 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (sound().decode().encode("utf-16"), "iconv -f UTF-16"),
        (sound().decode().encode("utf-16-le"), "iconv -f UTF-16LE"),
        (b"\x28\xb5\x2f\xfd" + bytes(100), "zstd -d"),
    ],
)
def test_another_encoding_is_refused_with_its_remedy(tmp_path: Path, data: bytes, words: str) -> None:
    """Given UTF-16 and zstd, when loaded, then the error says what it is and how to convert it."""
    with pytest.raises(InputError, match=words):
        of_bytes(tmp_path, data)


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_file_of_another_version_is_refused_by_name(tmp_path: Path, as_folder: bool) -> None:
    """Given a file of telemetry/v2, when it or its folder is loaded, then the error names that version and a remedy."""
    path = write(tmp_path / "run.jsonl", [{**one, "schema": V2} for one in (began(), *steps(3))])
    with pytest.raises(NoTelemetryError) as caught:
        load_run(tmp_path if as_folder else path)
    assert V2 in caught.value.message
    assert "Update gradience" in caught.value.remedy


@pytest.mark.parametrize(("dropped", "breaks"), [(0, 1), (3, 0), (2, 1)])
def test_missing_events_are_an_error(tmp_path: Path, dropped: int, breaks: int) -> None:
    """Given a repeated number, a count of dropped events, or both, when diagnosed, then the sequence is not whole."""
    rows: list[Any] = numbered([began(), *steps(10), ended()])
    if dropped:
        rows[6]["dropped_events"] = dropped
    if breaks:
        rows.insert(5, rows[4])
    (finding,) = findings(tmp_path, rows)
    assert (finding.code, finding.rule, finding.severity) == ("events_missing", "Q04", Severity.ERROR)
    assert (finding.evidence["dropped_by_emitter"], finding.evidence["breaks"]) == (dropped, breaks)


def test_names_nearly_known_are_mistyped_and_others_are_meant(tmp_path: Path) -> None:
    """Given events of a mistyped and of an own name, when diagnosed, then only the mistyped one is a finding."""
    rows = [began(), *steps(5), *(record(name, 5, ts=T0 + 6) for name in ("evals", "evals", "checkpoint"))]
    finding = by_code(findings(tmp_path, [*rows, ended()]))["unknown_event"]
    assert finding.evidence == {"count": 2, "meant": {"evals": "eval"}}
    assert [place.line for place in finding.places] == [7]


def test_a_run_resumed_into_its_file_has_no_invalid_step(tmp_path: Path) -> None:
    """Given a second run_start in the file before the step goes back, when diagnosed, then the steps are sound."""
    assert "step_invalid" not in by_code(findings(tmp_path, [began(), *steps(10), began(), *steps(12), ended()]))


def test_faults_of_logging_have_their_places(tmp_path: Path) -> None:
    """Given a number in a string and a metric that becomes a boolean, when diagnosed, then each names its line."""
    rows = [began(), *steps(3), evaluation(3, "val", ts=T0 + 4, loss="1.5", acc=1), evaluation(3, "val", ts=T0 + 5)]
    rows += [evaluation(3, "val", ts=T0 + 6, loss="1.6", acc=True), ended()]
    found = by_code(findings(tmp_path, rows))
    assert {code: [place.line for place in finding.places] for code, finding in found.items()} == {
        "number_in_string": [5],
        "metric_type_changed": [7],
    }
    assert "'1.5'" in found["number_in_string"].evidence["first"]


def test_strict_reading_says_nothing_twice(tmp_path: Path) -> None:
    """Given warnings that strict reading makes errors, when diagnosed, then no contract is called broken besides."""
    rows: list[Any] = [began(), *steps(3), evaluation(3, "val", ts=T0 + 1, loss="1.5"), record("evals", 2, ts=T0 + 4)]
    path = write(tmp_path / "run.jsonl", [*rows, ended()])
    found = by_code(judged(path, strict=True).findings)
    assert set(found) == {"number_in_string", "unknown_event", "step_invalid", "clock_jump"}


def test_a_compressed_file_that_breaks_off_has_lost_records(tmp_path: Path) -> None:
    """Given a gzip file that is cut off, when diagnosed, then records are lost, and nothing is called malformed."""
    noise = random.Random(1)
    rows = [began(), *steps(400, note=noise.random()), ended()]
    data = gzip.compress(b"".join(json.dumps(one).encode() + b"\n" for one in rows))
    found = by_code(of_bytes(tmp_path, data[: len(data) * 3 // 4]).findings)
    assert "compressed" in found["events_lost"].message
    assert "contract_broken" not in found
