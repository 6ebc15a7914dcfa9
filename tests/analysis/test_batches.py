"""The fast reader accepts, refuses and reports what the line-by-line reader does."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradience_analysis.model import Event
from gradience_analysis.sources.lines import MAX_LINE_BYTES
from gradience_analysis.telemetry.batches import BatchReader, Rows
from gradience_analysis.telemetry.cross_line import CrossLineCheck
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.read import EventReader
from gradience_analysis.telemetry.rowshape import RowShape

SCHEMA = "gradience.vnext.telemetry/v1"


def row(step: int, **fields: Any) -> dict[str, Any]:
    """A train_step as an emitter writes it."""
    envelope = {"schema": SCHEMA, "ts": 1.7e9 + step / 3, "run_id": "r", "event": "train_step", "step": step}
    return envelope | {"seq": step, "loss": 1.0 / (step + 1), "lr": 1e-4} | fields


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    """The records as a telemetry file."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def run(steps: int) -> list[bytes]:
    """A run with an evaluation every hundred steps and a field that only every tenth row has."""
    records: list[dict[str, Any]] = [row(0) | {"event": "run_start", "step": None, "config": {"lora": {"r": 8}}}]
    for step in range(1, steps):
        extra = {"tokens": step * 512} if step % 10 == 0 else {}
        records.append(row(step, **extra))
        if step % 100 == 0:
            records.append(row(step) | {"event": "eval", "split": "val", "metrics": {"loss": 0.5, "n": 64}})
    return [json.dumps(record).encode() for record in records]


def seen(reader: BatchReader | EventReader) -> tuple[Any, ...]:
    """Everything a reader says about a file, rules across lines included, with the order of payload keys left out."""
    check = CrossLineCheck(reader.path, reader.issues)
    events: list[Event] = []
    for batch in reader:
        if isinstance(batch, Rows):
            check.observe_rows(batch, reader.rejected)
            events.extend(batch.events())
        else:
            check.observe(batch, reader.rejected)
            events.append(batch)
    plain = [repr(event._replace(payload=sorted(event.payload.items()))) for event in events]
    issues = sorted(reader.issues.kept, key=lambda issue: (issue.line or 0, issue.code, issue.pointer or ""))
    return plain, issues, reader.issues.counts, check.missing, reader.lines, reader.size, reader.events, reader.rejected


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda line: line[: len(line) // 2],
    "garbage": lambda line: b"\x00\xff" + line,
    "invalid utf-8": lambda line: line.replace(b'"r"', b'"\xff"'),
    "blank": lambda line: b"",
    "crlf": lambda line: line + b"\r",
    "spaces": lambda line: b" " + line + b"  ",
    "two records": lambda line: line + line,
    "over two lines": lambda line: line.replace(b", ", b",\n", 1),
    "over two lines, with braces": lambda line: line.replace(b'"lr": 0.0001', b'"x": {"y": 1}\n, "lr": 0.0001'),
    "repeated key": lambda line: line.replace(b'"lr"', b'"loss"'),
    "repeated key, absent another": lambda line: line.replace(b'"tokens"', b'"loss"'),
    "escaped key": lambda line: line.replace(b'"lr"', b'"l\\u0072"'),
    "colon in a name": lambda line: line.replace(b'"lr"', b'"a:b"'),
    "escaped colon in a repeated key": lambda line: line.replace(b'"lr"', b'"a\\u003ab": 1, "loss"'),
    "string": lambda line: line.replace(b'"lr": 0.0001', b'"lr": 0.0001, "note": "a: b, 1.5"'),
    "escaped colon in a string": lambda line: line.replace(b'"lr"', b'"note": "a\\u003ab", "loss"'),
    "string for a number": lambda line: line.replace(b'"loss": ', b'"loss": "1.5", "x": '),
    "rates": lambda line: line.replace(b'"lr": 0.0001', b'"lr": [0.0001, 0.001]'),
    "nan": lambda line: line.replace(b'"lr": 0.0001', b'"lr": NaN'),
    "null with a mark": lambda line: line.replace(b'"lr": 0.0001', b'"lr": null, "nonfinite": {"/lr": "nan"}'),
    "overflow": lambda line: line.replace(b'"lr": 0.0001', b'"lr": 1e999'),
    "whole number": lambda line: line.replace(b'"lr": 0.0001', b'"lr": 12345678901234567890'),
    "huge ts": lambda line: line.replace(b'"ts": 1', b'"ts": 1' + b"0" * 400),
    "fractional step": lambda line: line.replace(b'"step": ', b'"step": 0.5, "z": '),
    "no step": lambda line: line.replace(b'"step": ', b'"stp": '),
    "later ts": lambda line: line.replace(b'"ts": 1', b'"ts": 2'),
    "earlier ts": lambda line: line.replace(b'"ts": 17', b'"ts": 16'),
    "later step": lambda line: line.replace(b'"step": ', b'"step": 9'),
    "later seq": lambda line: line.replace(b'"seq": ', b'"seq": 9'),
    "no seq": lambda line: line.replace(b'"seq": ', b'"s": '),
    "run end": lambda line: line.replace(b'"train_step"', b'"run_end", "status": "ok"'),
    "negative seq": lambda line: line.replace(b'"seq": ', b'"seq": -'),
    "other run": lambda line: line.replace(b'"r"', b'"other: run"'),
    "other schema": lambda line: line.replace(b"/v1", b"/v9"),
    "unknown event": lambda line: line.replace(b"train_step", b"train_stop"),
    "nested": lambda line: line.replace(b'"lr": 0.0001', b'"lr": 0.0001, "more": {"a": [1, {"b": 2}]}'),
    "deep": lambda line: line.replace(b"0.0001", b"[" * 3000 + b"]" * 3000),
    "long string": lambda line: line.replace(b'"r"', b'"r", "note": "' + b"x" * 70_000 + b'"'),
    "too long": lambda line: line.replace(b'"r"', b'"r", "note": "' + b"x" * MAX_LINE_BYTES + b'"'),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_each_kind_of_damage_reads_alike(tmp_path: Path, kind: str) -> None:
    """Given a file with one kind of odd line here and there, when read both ways, then all they say is equal."""
    lines = run(3000)
    for place in (0, 1, 7, 10, 500, 1500, 1501, 2010, len(lines) - 1):
        lines[place] = DAMAGE[kind](lines[place])
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert seen(BatchReader(path, IssueLog())) == seen(EventReader(path, IssueLog()))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.integers(2, 400),
    damage=st.lists(st.tuples(st.floats(0, 1), st.sampled_from(sorted(DAMAGE))), max_size=30),
    ended=st.booleans(),
    zipped=st.booleans(),
)
def test_any_mixture_of_damage_reads_alike(
    tmp_path: Path, steps: int, damage: list[tuple[float, str]], ended: bool, zipped: bool
) -> None:
    """Given any mixture of odd lines, when read both ways, then events, issues and counts are equal."""
    lines = run(steps)
    for where, kind in damage:
        place = min(len(lines) - 1, int(where * len(lines)))
        lines[place] = DAMAGE[kind](lines[place])
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    path = tmp_path / "run.jsonl"
    path.write_bytes(gzip.compress(data, 1) if zipped else data)
    assert seen(BatchReader(path, IssueLog())) == seen(EventReader(path, IssueLog()))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(), min_size=2, max_size=20))
def test_numbers_are_those_of_json(tmp_path: Path, values: list[float | int]) -> None:
    """Given any finite numbers, when read in a block, then each has the type and the bits that `json` gives it."""
    lines = [json.dumps(row(step, x=value)).encode() for step, value in enumerate(values)]
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    events = [
        event
        for batch in BatchReader(path, IssueLog())
        for event in (batch.events() if isinstance(batch, Rows) else (batch,))
    ]
    assert [repr(event.payload["x"]) for event in events] == [repr(json.loads(line)["x"]) for line in lines]


GUESSES = ({}, {"note": "a: b"}, {"x": 1.5, "y": 2}, {"rate": "high"}, {"lr": [0.5]}, {"loss": None})


@pytest.mark.parametrize("fields", GUESSES, ids=str)
@pytest.mark.parametrize("kind", ["cut", "string", "repeated key", "nan", "run end", "rates"])
def test_a_wrong_guess_of_the_shape_changes_nothing(tmp_path: Path, kind: str, fields: dict[str, Any]) -> None:
    """Given the shape of another file's rows as a guess, when read, then all that is said is as without it."""
    shape = RowShape.of(next(iter(EventReader(write(tmp_path / "other.jsonl", [row(1, **fields)]), IssueLog()))))
    assert shape is not None
    lines = run(400)
    lines[1 : 1 + 50 * (kind == "string")] = [DAMAGE["string"](line) for line in lines[1 : 1 + 50 * (kind == "string")]]
    for place in (1, 2, 40, 200, len(lines) - 1):
        lines[place] = DAMAGE[kind](lines[place])
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert seen(BatchReader(path, IssueLog(), expected=shape)) == seen(EventReader(path, IssueLog()))


def test_ordinary_rows_come_in_blocks(tmp_path: Path) -> None:
    """Given a clean run, when read, then all rows but the first of each form come as blocks, not as events."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"\n".join(run(5000)) + b"\n")
    batches = list(BatchReader(path, IssueLog()))
    singles = [batch for batch in batches if not isinstance(batch, Rows) and batch.event == "train_step"]
    assert [event.step for event in singles] == [1, 10]
    assert sum(len(batch.records) for batch in batches if isinstance(batch, Rows)) == 4997


@pytest.mark.parametrize("cut", [10, 400, 4000])
def test_a_cut_off_gzip_gives_what_it_holds(tmp_path: Path, cut: int) -> None:
    """Given a gzip file that ends early, when read, then the lines before the cut are read and the cut is an error."""
    data = gzip.compress(b"\n".join(run(2000)) + b"\n")
    path = tmp_path / "run.jsonl.gz"
    path.write_bytes(data[:-cut])
    log = IssueLog()
    events = list(EventReader(path, log))
    assert events
    assert [issue.code for issue in log.kept if issue.code == "gzip_fault"] == ["gzip_fault"]
    assert seen(BatchReader(path, IssueLog()))[6] == len(events)


def test_gzip_of_several_members_is_one_text(tmp_path: Path) -> None:
    """Given a file made of two gzip files, with padding after them, when read, then both are read without an issue."""
    lines = run(50)
    first, second = b"\n".join(lines[:20]) + b"\n", b"\n".join(lines[20:]) + b"\n"
    path = tmp_path / "run.jsonl.gz"
    path.write_bytes(gzip.compress(first) + gzip.compress(second) + b"\x00" * 100)
    reader = BatchReader(path, IssueLog())
    assert len(seen(reader)[0]) == len(lines)
    assert not reader.issues.counts
