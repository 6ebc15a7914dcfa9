"""The line reader: one bad line costs one line, and every fault has its place."""

from __future__ import annotations

import gzip
import json
import math
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gradience_analysis.errors import InputError
from gradience_analysis.model import Event
from gradience_analysis.sources.lines import MAX_LINE_BYTES
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.names import did_you_mean, edit_distance
from gradience_analysis.telemetry.read import EventReader
from gradience_schema import EVENT_TYPES, Severity, load_schema, registry
from tests.analysis.records import SCHEMA, end, lines, record, start, train, write

FIXTURES = Path(__file__).parents[2] / "fixtures" / "telemetry" / "v1"
ROOT = Draft202012Validator(load_schema(), registry=registry())


def read(path: Path, *, strict: bool = False) -> tuple[list[Event], IssueLog]:
    """Events and issues of a file."""
    log = IssueLog(strict=strict)
    return list(EventReader(path, log)), log


def read_bytes(folder: Path, data: bytes) -> tuple[list[Event], IssueLog]:
    """The same for bytes."""
    path = folder / "run.jsonl"
    path.write_bytes(data)
    return read(path)


def codes(log: IssueLog) -> dict[str, int]:
    """Number of issues by code."""
    return {item.code: item.count for item in log.counts}


def test_clean_file_gives_its_events_and_no_issue(tmp_path: Path) -> None:
    """Given a clean file, when it is read, then each line is an event at its place, and nothing is reported."""
    path = write(tmp_path / "run.jsonl", [start(), *train([1, 2]), end()])
    events, log = read(path)
    assert [event.event for event in events] == ["run_start", "train_step", "train_step", "run_end"]
    assert [event.line for event in events] == [1, 2, 3, 4]
    data = path.read_bytes()
    assert all(data[event.byte_offset :].startswith(b'{"schema"') for event in events)
    assert events[1].payload == {"loss": 1.99, "lr": 1e-4, "grad_norm": 1.0}
    assert log.kept == []


GOOD = lines([start(), *train([1, 2, 3]), end()])
DAMAGE = {
    "invalid_json": b'{"schema": oops}',
    "invalid_utf8": b'{"schema": "\xff"}',
    "nul_bytes": b"\x00" * 40,
    "not_an_object": b"[1, 2]",
    "too_deep": b"[" * 100_000,
    "too_deep inside a record": lines([record("eval", 2, split="val", metrics={"m": 0})])[0].replace(
        b'"m": 0', b'"m": ' + b"[" * 200_000 + b"]" * 200_000
    ),
    "number_too_long": b'{"a": ' + b"1" * 5000 + b"}",
    "wrong_type": lines([record("train_step", 2, loss="1.5")])[0],
    "missing_field": lines([record("eval", 2, split="val")])[0],
    "bad_value": lines([record("run_end", None, status="done")])[0],
    "unknown_schema": lines([{**record("train_step", 2), "schema": "gradience.vnext.telemetry/v2"}])[0],
    "line_too_long": lines([record("train_step", 2, note="x" * (MAX_LINE_BYTES + 5))])[0],
    "missing_field of another layout": b'{"timestamp": "2024-01-01", "event": "step_metrics", "data": {"loss": 1}}',
}


@pytest.mark.parametrize("code", DAMAGE)
def test_one_bad_line_costs_one_line(tmp_path: Path, code: str) -> None:
    """Given one damaged line of each kind, when read, then it alone is lost, named with its line and offset."""
    damaged = [*GOOD[:2], DAMAGE[code], *GOOD[2:]]
    events, log = read_bytes(tmp_path, b"".join(line + b"\n" for line in damaged))
    assert len(events) == len(GOOD)
    assert codes(log) == {code.partition(" ")[0]: 1}
    issue = log.kept[0]
    first = len(b"\n".join(GOOD[:2])) + 1
    assert issue.line == 3
    assert issue.byte_offset is not None
    assert first <= issue.byte_offset < first + len(DAMAGE[code])
    assert issue.severity is Severity.ERROR


def test_line_after_an_over_long_one_is_at_its_true_offset(tmp_path: Path) -> None:
    """Given a line over the cap, when read, then the next event has its true line number and byte offset."""
    path = write(tmp_path / "run.jsonl", [start(), b"x" * (3 * MAX_LINE_BYTES + 17), *train([1])])
    events, _ = read(path)
    assert events[1].line == 3
    assert path.read_bytes()[events[1].byte_offset :] == lines(train([1]))[0] + b"\n"


def test_over_long_line_that_starts_like_a_whole_record_is_refused(tmp_path: Path) -> None:
    """Given a record followed by blanks and text past the cap, when read, then no event comes of its beginning."""
    whole = lines(train([1]))[0]
    padded = whole[:-1] + b" " * (MAX_LINE_BYTES + 1 - len(whole)) + b"}" + b" trailing"
    events, log = read_bytes(tmp_path, padded + b"\n")
    assert events == []
    assert codes(log) == {"line_too_long": 1}


def test_torn_tail_is_one_warning(tmp_path: Path) -> None:
    """Given a last line cut in the middle, when read, then it is a torn tail, and all before it is kept."""
    data = b"".join(line + b"\n" for line in GOOD)
    events, log = read_bytes(tmp_path, data[:-20])
    assert len(events) == len(GOOD) - 1
    assert codes(log) == {"torn_tail": 1}
    assert log.kept[0].severity is Severity.WARNING


def test_missing_final_newline_keeps_the_event(tmp_path: Path) -> None:
    """Given a complete last record without its newline, when read, then the event is kept and a warning given."""
    events, log = read_bytes(tmp_path, b"\n".join(GOOD))
    assert len(events) == len(GOOD)
    assert codes(log) == {"no_final_newline": 1}


def test_bom_crlf_and_blank_lines_are_passed_over(tmp_path: Path) -> None:
    """Given a BOM, CRLF line ends and blank lines, when read, then no event is lost and each is named once."""
    data = b"\xef\xbb\xbf" + b"\r\n".join([*GOOD[:2], b"", *GOOD[2:]]) + b"\r\n"
    events, log = read_bytes(tmp_path, data)
    assert len(events) == len(GOOD)
    assert codes(log) == {"bom": 1, "crlf": 1, "blank_line": 1}


def test_only_newline_splits_lines(tmp_path: Path) -> None:
    """Given other Unicode line separators inside a string, when read, then the record stays one line."""
    item = json.dumps(record("alert", 1, severity="info", code="x", message="a\u2028b\u0085c"), ensure_ascii=False)
    events, log = read_bytes(tmp_path, item.encode() + b"\n")
    assert events[0].payload["message"] == "a\u2028b\u0085c"
    assert log.kept == []


def test_bare_nan_is_read_and_reported(tmp_path: Path) -> None:
    """Given bare NaN and Infinity tokens, when read, then they are numbers, with a warning (strict: an error)."""
    path = write(tmp_path / "run.jsonl", [record("train_step", 1, loss=math.nan, lr=[1.0, -math.inf])])
    (event,), log = read(path)
    assert math.isnan(event.payload["loss"])
    assert event.payload["lr"] == [1.0, -math.inf]
    assert event.nonfinite == ("/loss", "/lr/1")
    assert [(issue.code, issue.severity) for issue in log.kept] == [("nonfinite_token", Severity.WARNING)]
    assert read(path, strict=True)[1].kept[0].severity is Severity.ERROR


def test_nan_in_the_envelope_is_refused(tmp_path: Path) -> None:
    """Given a NaN timestamp, when read, then the record is refused: its place in time is not known."""
    events, log = read_bytes(tmp_path, lines([record("train_step", 1, ts=math.nan)])[0] + b"\n")
    assert events == []
    assert codes(log) == {"bad_value": 1}


def test_nonfinite_marks_are_restored(tmp_path: Path) -> None:
    """Given null fields named by `nonfinite`, when read, then NaN and infinities are back in their places."""
    marks = {"/loss": "nan", "/lr/1": "-inf", "/deep/a~1b": "inf"}
    fields = {"loss": None, "lr": [1.0, None], "deep": {"a/b": None}, "nonfinite": marks}
    (event,), log = read(write(tmp_path / "run.jsonl", [record("train_step", 1, **fields)]))
    assert math.isnan(event.payload["loss"])
    assert event.payload["lr"] == [1.0, -math.inf]
    assert event.payload["deep"] == {"a/b": math.inf}
    assert event.nonfinite == tuple(marks)
    assert log.kept == []


@pytest.mark.parametrize("pointer", ["/loss", "/absent", "/lr/9", "/lr/-1", "/lr/x", "/loss/deeper", "/lr/٣"])
def test_nonfinite_mark_without_a_null_is_reported(tmp_path: Path, pointer: str) -> None:
    """Given a mark that points at no null, when read, then nothing changes and a warning says so."""
    fields = {"loss": 1.0, "lr": [1.0], "nonfinite": {pointer: "nan"}}
    (event,), log = read(write(tmp_path / "run.jsonl", [record("train_step", 1, **fields)]))
    assert event.payload == {"loss": 1.0, "lr": [1.0]}
    assert codes(log) == {"nonfinite_unplaced": 1}


def test_lone_surrogate_and_overflow_are_tolerated(tmp_path: Path) -> None:
    """Given a lone surrogate and a number beyond a double, when read, then both are kept readable and reported."""
    raw = lines([record("train_step", 1, note="NOTE", loss=1.0)])[0]
    data = raw.replace(b'"NOTE"', b'"\\ud800"').replace(b'"loss": 1.0', b'"loss": 1e999')
    (event,), log = read_bytes(tmp_path, data + b"\n")
    assert event.payload["note"] == "\ufffd"
    assert event.payload["loss"] == math.inf
    assert codes(log) == {"lone_surrogate": 1, "number_overflow": 1}


def test_forms_only_the_schema_knows_are_accepted(tmp_path: Path) -> None:
    """Given `step: 1.0`, which JSON Schema counts as an integer, when read, then the event has step 1."""
    (event,), log = read(write(tmp_path / "run.jsonl", [{**record("train_step"), "step": 1.0, "seq": 0.0}]))
    assert (event.step, type(event.step), event.seq) == (1, int, 0)
    assert log.kept == []


@pytest.mark.parametrize(
    ("name", "meant"), [("train_stp", "train_step"), ("evla", "eval"), ("checkpoint_saved", None), ("", None)]
)
def test_unknown_event_is_kept_with_a_suggestion(tmp_path: Path, name: str, meant: str | None) -> None:
    """Given an unknown event, when read, then it is kept, with an info issue and the nearest known name."""
    path = write(tmp_path / "run.jsonl", [record(name, 1)])
    (event,), log = read(path)
    assert event.event == name
    assert log.kept[0].severity is Severity.INFO
    assert ("Did you mean" in log.kept[0].message) is (meant is not None)
    assert meant is None or repr(meant) in log.kept[0].message
    assert read(path, strict=True)[1].kept[0].severity is Severity.ERROR


def test_message_names_pointer_and_keyword(tmp_path: Path) -> None:
    """Given a wrong value deep inside, when read, then the issue has its pointer, keyword and a plain sentence."""
    bad = record("run_start", config={"lora": {"target_modules": ["q", 3]}})
    _, log = read(write(tmp_path / "run.jsonl", [bad]))
    issue = log.kept[0]
    assert (issue.pointer, issue.keyword) == ("/config/lora/target_modules/1", "type")
    assert issue.message == "/config/lora/target_modules/1 must be a string, not the number 3."


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (gzip.compress("\ufeff{}\n".encode("utf-16-le"), mtime=0), "UTF-16"),
        ("\ufeff{}\n".encode("utf-16-le"), "UTF-16"),
        ("\ufeff{}\n".encode("utf-16-be"), "UTF-16"),
        ("{}\n".encode("utf-16-le"), "UTF-16"),
        ("\ufeff{}\n".encode("utf-32-le"), "UTF-32"),
        (b"PAR1....", "Parquet"),
    ],
)
def test_container_is_named_with_its_remedy(tmp_path: Path, data: bytes, word: str) -> None:
    """Given a compressed or re-encoded file, when read, then the error names what it is and what to do."""
    with pytest.raises(InputError, match=word) as caught:
        read_bytes(tmp_path, data)
    assert caught.value.remedy


def test_what_is_not_a_regular_file_is_refused(tmp_path: Path) -> None:
    """Given a FIFO, a device, a directory or nothing, when read, then a plain error comes at once."""
    fifo = tmp_path / "fifo.jsonl"
    os.mkfifo(fifo)
    for path, word in (
        (fifo, "FIFO"),
        (Path("/dev/zero"), "device"),
        (tmp_path, "directory"),
        (tmp_path / "no", "does not exist"),
    ):
        with pytest.raises(InputError, match=word):
            read(path)


def test_issues_are_capped_and_counted(tmp_path: Path) -> None:
    """Given thousands of bad lines, when read, then few are kept, and every one is counted."""
    _, log = read_bytes(tmp_path, b"oops\n" * 5000)
    assert len(log.kept) == log.keep_per_code
    assert codes(log) == {"invalid_json": 5000}


@settings(max_examples=300, deadline=None)
@given(
    data=st.binary(max_size=400)
    | st.text(alphabet='{}[]",:\\ntrufalse0123456789.eE+-NaInity \n\r', max_size=200).map(str.encode)
)
def test_random_bytes_never_raise(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Given any bytes, when read, then the reader ends with events and issues, or with a plain InputError."""
    folder = tmp_path_factory.mktemp("bytes")
    try:
        events, log = read_bytes(folder, data)
    except InputError:
        return
    filled = [line for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    assert len(events) + sum(codes(log).values()) >= len(filled)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**9), count=st.integers(0, 12))
def test_k_damaged_lines_lose_exactly_those_k(tmp_path_factory: pytest.TempPathFactory, seed: int, count: int) -> None:
    """Given k lines damaged in the middle of a file, when read, then exactly the other lines are events."""
    rng = random.Random(seed)
    good = lines([start(), *train(range(1, 40)), end()])
    chosen = sorted(rng.sample(range(len(good)), count))
    damaged = list(good)
    for place in chosen:
        line = good[place]
        cut = rng.randrange(1, len(line) - 1)
        kinds = (
            line[:cut],
            line[:cut] + b"\xff" + line[cut:],
            b"\x00" * 9,
            line + line,
            line[:cut] + b"\x01" + line[cut:],
        )
        damaged[place] = rng.choice(kinds)
    events, log = read_bytes(tmp_path_factory.mktemp("damage"), b"".join(line + b"\n" for line in damaged))
    expected = [place + 1 for place in range(len(good)) if place not in chosen]
    assert [event.line for event in events] == expected
    assert sorted(issue.line or 0 for issue in log.kept) == [place + 1 for place in chosen]


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*/*/*.json")), ids=lambda path: "/".join(path.parts[-3:]))
def test_reader_agrees_with_the_published_schema(path: Path, tmp_path: Path) -> None:
    """Given each schema fixture, when read as a line, then it is accepted exactly when the schema accepts it."""
    item = json.loads(path.read_text(encoding="utf-8"))
    item = item.get("record", item) if isinstance(item, dict) and "schema" not in item else item
    events, _ = read(write(tmp_path / "run.jsonl", [item]))
    assert bool(events) is ROOT.is_valid(item)


KEYS = st.sampled_from(["/loss", "loss", "r", "lr", "segment"])
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=4),
    st.lists(st.none() | st.floats(-1, 1) | st.text(max_size=2), max_size=3),
    st.dictionaries(KEYS, st.sampled_from(["nan", 1, None, "x"]), max_size=2),
)
FIELDS = st.sampled_from(
    [
        *("schema", "ts", "run_id", "event", "step", "seq", "nonfinite", "renamed", "truncated", "dropped_events"),
        *("loss", "lr", "grad_norm", "epoch", "split", "metrics", "kind", "severity", "code", "message", "context"),
        *("status", "reason", "config", "meta", "recommendations", "telemetry_faults"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(event=st.sampled_from(EVENT_TYPES), changes=st.dictionaries(FIELDS, VALUES, max_size=3), drop=st.none() | FIELDS)
def test_fuzzed_records_are_judged_as_the_schema_judges_them(
    tmp_path_factory: pytest.TempPathFactory, event: str, changes: dict[str, object], drop: str | None
) -> None:
    """Given a valid record with fields changed at random, when read, then accept or refuse equals the schema."""
    required: dict[str, dict[str, object]] = {
        "run_start": {"config": {}},
        "eval": {"split": "val", "metrics": {}},
        "metrics": {"kind": "memory", "metrics": {}},
        "alert": {"severity": "info", "code": "c", "message": "m"},
        "recommendation": {"recommendations": []},
        "run_end": {"status": "ok"},
    }
    item = {**record(event, 1), **required.get(event, {}), **changes}
    if drop is not None:
        item.pop(drop, None)
    path = write(tmp_path_factory.mktemp("fuzz") / "run.jsonl", [item])
    events, _ = read(path)
    assert bool(events) is ROOT.is_valid(item)


@given(a=st.text("abcd", max_size=6), b=st.text("abcd", max_size=6))
def test_edit_distance_is_a_metric(a: str, b: str) -> None:
    """Given two words, when measured, then the distance is symmetric, 0 only for equals, and bounded by length."""
    distance = edit_distance(a, b)
    assert distance == edit_distance(b, a)
    assert (distance == 0) is (a == b)
    assert abs(len(a) - len(b)) <= distance <= max(len(a), len(b))


def test_suggestion_is_never_the_name_itself() -> None:
    """Given the known names, when asked for a suggestion, then there is none; a typo of one gives that one."""
    for name in EVENT_TYPES:
        assert did_you_mean(name) is None
        assert did_you_mean(name + "x") == name


def test_schema_id_is_the_published_one() -> None:
    """Given the identifier that these tests write by hand, when compared, then it is the schema's own."""
    assert load_schema()["$id"].endswith("telemetry/v1/telemetry.schema.json")
    assert SCHEMA == "gradience.vnext.telemetry/v1"
