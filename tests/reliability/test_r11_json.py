"""R11: every valid JSON text is read, and every invalid one is refused, with line, byte offset and reason."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.model import Event, Issue
from gradience_analysis.telemetry.batches import BatchReader, Rows
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.read import EventReader
from gradience_schema import Severity
from tests.reliability import json_cases, rfc8259

VALID, INVALID, UNDECIDED = json_cases.valid(), json_cases.invalid(), json_cases.undecided()
ROW = b'{"schema":"gradience.vnext.telemetry/v1","ts":1.5,"run_id":"r","event":"train_step","step":1,"x":%s,"y":1}'
# The fast reader has to know rows in which x holds each scalar type before it takes the short way with a line.
TAUGHT = [ROW % text for text in (b"0", b"0.5", b'"s"', b"null", b"true")]
ODD = len(TAUGHT) + 1

Read = Callable[[Path, list[bytes]], tuple[list[Event], list[Issue]]]


def by_event(folder: Path, lines: list[bytes]) -> tuple[list[Event], list[Issue]]:
    """Events and issues of these lines, line by line."""
    log = IssueLog(keep_per_code=10_000)
    return list(EventReader(written(folder, lines), log)), log.kept


def by_batch(folder: Path, lines: list[bytes]) -> tuple[list[Event], list[Issue]]:
    """The same through the fast reader."""
    log = IssueLog(keep_per_code=10_000)
    batches = BatchReader(written(folder, lines), log)
    return [event for batch in batches for event in (batch.events() if isinstance(batch, Rows) else (batch,))], log.kept


def written(folder: Path, lines: list[bytes]) -> Path:
    """The lines as a file."""
    path = folder / "run.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


readers = pytest.mark.parametrize("read", [by_event, by_batch])


def check_refusal(issues: list[Issue], line: bytes) -> None:
    """One error, with the line, a byte offset at the fault, and the reason."""
    (issue,) = issues
    assert (issue.line, issue.severity) == (ODD, Severity.ERROR)
    first = sum(len(row) + 1 for row in TAUGHT)
    assert issue.byte_offset is not None
    at = issue.byte_offset - first
    if issue.code == "too_deep":
        assert line.count(b"[") + line.count(b"{") > 1_000
        return
    wrong = not_utf8_at(line)
    if wrong is None:
        fault = rfc8259.fault(line)
        assert fault is not None
        assert issue.code == "invalid_json"
        assert fault.token <= at <= fault.at
    else:
        assert (issue.code, at) == ("invalid_utf8", wrong)
        assert f"0x{line[wrong]:02X}" in issue.message
    assert f"at byte {at + 1} of the line" in issue.message


def not_utf8_at(line: bytes) -> int | None:
    """Offset of the first byte that is not UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return error.start
    return None


def test_the_table_has_a_suite_s_length() -> None:
    """Given the cases, when counted, then there are as many as such a suite has, and each judgement has its share."""
    assert len(VALID) >= 130
    assert len(INVALID) >= 330
    assert len(UNDECIDED) >= 30


@pytest.mark.parametrize("name", [*VALID, *INVALID])
def test_the_table_is_right(name: str) -> None:
    """Given a case, when judged by the RFC's grammar and by Python's strict parser, then both agree with the table."""
    text = VALID.get(name) or INVALID.get(name, b"")
    for embedded in (text, ROW % text):
        assert (rfc8259.fault(embedded) is None) is (name in VALID)
        assert parses(embedded) is (name in VALID)


def parses(text: bytes) -> bool:
    """Whether the standard library takes a text for strict JSON in UTF-8."""
    try:
        json.loads(text.decode("utf-8", "strict"), parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    return True


def refuse(token: str) -> None:
    """JSON has no such token."""
    raise ValueError(token)


@readers
@pytest.mark.parametrize("name", VALID)
def test_valid_text_is_read(tmp_path: Path, read: Read, name: str) -> None:
    """Given a valid text as a value of a record, when read, then the value is that of `json`, and nothing is said."""
    events, issues = read(tmp_path, [*TAUGHT, ROW % VALID[name], ROW % b"2"])
    assert [event.line for event in events] == [*range(1, ODD + 2)]
    assert repr(events[ODD - 1].payload["x"]) == repr(json.loads(VALID[name]))
    assert events[ODD].payload["x"] == 2
    assert issues == []


@readers
@pytest.mark.parametrize("name", INVALID)
def test_invalid_text_is_refused(tmp_path: Path, read: Read, name: str) -> None:
    """Given an invalid text as a value of a record, when read, then that line alone is lost, and its fault named."""
    line = ROW % INVALID[name]
    events, issues = read(tmp_path, [*TAUGHT, line, ROW % b"2"])
    assert [event.line for event in events] == [*range(1, ODD), ODD + 1]
    check_refusal(issues, line)


@readers
@pytest.mark.parametrize("name", [name for name, text in INVALID.items() if text])
def test_invalid_text_as_a_line_is_refused(tmp_path: Path, read: Read, name: str) -> None:
    """Given an invalid text as a whole line, when read, then that line alone is lost, and its fault named."""
    events, issues = read(tmp_path, [*TAUGHT, INVALID[name], ROW % b"2"])
    assert [event.line for event in events] == [*range(1, ODD), ODD + 1]
    check_refusal(issues, INVALID[name])


@readers
@pytest.mark.parametrize("name", [name for name in (*VALID, *INVALID) if name[2:].startswith("number")])
def test_numbers_in_a_list_of_rates(tmp_path: Path, read: Read, name: str) -> None:
    """Given a number, valid or not, among learning rates, when read, then it is judged there as it is elsewhere."""
    text = VALID.get(name) or INVALID[name]
    row = (ROW % b"0").replace(b'"y":1', b'"lr":[1,%s]')
    valid = rfc8259.fault(row % text) is None
    events, issues = read(tmp_path, [row % b"1e-4", row % b"2", row % text, row % b"3"])
    read_in_lists = valid and all(isinstance(rate, int | float) for rate in json.loads(row % text)["lr"])
    assert [event.line for event in events] == ([1, 2, 3, 4] if read_in_lists else [1, 2, 4])
    assert {issue.code for issue in issues} <= {"invalid_json", "invalid_utf8", "wrong_type"}
    assert len(issues) == (not read_in_lists)
    if read_in_lists:
        assert repr(events[2].payload["lr"]) == repr(json.loads(row % text)["lr"])


@readers
@pytest.mark.parametrize("name", UNDECIDED)
def test_what_the_rfc_leaves_open_is_as_documented(tmp_path: Path, read: Read, name: str) -> None:
    """Given a text that the RFC leaves to the reader, when read, then it is read or refused as the table says."""
    case = UNDECIDED[name]
    events, issues = read(tmp_path, [*TAUGHT, ROW % case.text, ROW % b"2"])
    assert {(issue.line, issue.code, str(issue.severity)) for issue in issues} == (
        set() if case.code is None else {(ODD, case.code, case.severity)}
    )
    assert (ODD in [event.line for event in events]) is (case.severity == "warning")
    assert events[-1].line == ODD + 1
    if case.severity == "warning" and case.code in {None, "nonfinite_token", "number_overflow", "repeated_key"}:
        assert repr(events[ODD - 1].payload["x"]) == repr(json.loads(case.text))


@readers
@pytest.mark.parametrize("text", [text for text in VALID.values() if not isinstance(json.loads(text), dict)])
def test_a_value_that_is_no_object_is_no_record(tmp_path: Path, read: Read, text: bytes) -> None:
    """Given a valid text that is no object as a whole line, when read, then it is refused as that, not as bad JSON."""
    events, issues = read(tmp_path, [*TAUGHT, text, ROW % b"2"])
    assert ODD not in [event.line for event in events]
    assert "not_an_object" in {issue.code for issue in issues if issue.line == ODD}
    assert {issue.code for issue in issues} <= {"not_an_object", "crlf"}


@readers
@pytest.mark.parametrize("seed", range(4))
def test_all_cases_in_one_file(tmp_path: Path, read: Read, seed: int) -> None:
    """Given every case once, in any order, in one file, when read, then exactly the invalid lines are lost."""
    texts: list[tuple[bytes, bool]] = [(text, True) for text in VALID.values()]
    texts += [(text, False) for text in INVALID.values()]
    texts += [(case.text, case.severity == "warning") for case in UNDECIDED.values()]
    random.Random(seed).shuffle(texts)
    events, issues = read(tmp_path, [ROW % text for text, _ in texts])
    assert [event.line for event in events] == [line for line, (_, kept) in enumerate(texts, 1) if kept]
    lost = {line for line, (_, kept) in enumerate(texts, 1) if not kept}
    assert {issue.line for issue in issues if issue.severity is Severity.ERROR} == lost
    offsets = places(ROW % text for text, _ in texts)
    for issue in issues:
        assert issue.line is not None
        assert issue.byte_offset is not None
        assert offsets[issue.line - 1] <= issue.byte_offset < offsets[issue.line]


def places(lines: Any) -> list[int]:
    """Byte offset of each line, and of the end."""
    found = [0]
    for line in lines:
        found.append(found[-1] + len(line) + 1)
    return found


@readers
def test_a_fault_after_a_byte_order_mark_is_at_its_place(tmp_path: Path, read: Read) -> None:
    """Given a first line with a BOM and a fault, when read, then the offset is that of the fault in the file."""
    line = b"\xef\xbb\xbf" + ROW % b"oops"
    _, issues = read(tmp_path, [line, ROW % b"1"])
    (issue,) = [issue for issue in issues if issue.code == "invalid_json"]
    assert issue.byte_offset == line.index(b"oops")
