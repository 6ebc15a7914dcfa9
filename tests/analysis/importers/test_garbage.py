"""Importers on anything at all: nothing but InputError leaves them, and what they give is always valid."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gradience_analysis.errors import InputError
from gradience_analysis.importers import IMPORTERS, Importer
from gradience_analysis.importers.rows.values import number_in
from gradience_analysis.model import Event
from gradience_schema import load_schema, registry
from tests.analysis.importers.foreign import LOGS, importer, record

VALIDATOR = Draft202012Validator(load_schema(), registry=registry())
NAMES = st.sampled_from(
    [
        *("step", "loss", "train_loss", "grad_norm", "learning_rate", "lr", "epoch", "eval_loss", "eval_a_loss"),
        *("eval_a_runtime", "eval_a_samples_per_second", "eval_", "_runtime", "_samples_per_second", "test_loss"),
        *("current_steps", "total_steps", "throughput", "ts", "seq", "run_id", "renamed", "nonfinite", "x_loss"),
        *("metrics", "split", "kind", "status", "config", "eval_metrics", "num_tokens", "tokens", "reason", "a/b~c"),
        *("spectral_", "spectral_kappa", "risk_level", "lora_config", "model", "seed", "global_step", ""),
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(),
    st.sampled_from(["1.5", "nan", "-Infinity", "0012", "x" * 90, "", "é\ud800", "7"]),
    st.text(max_size=5),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
ROWS = st.dictionaries(NAMES | st.text(max_size=3), VALUES, max_size=7)
EVENTS = st.sampled_from(
    ["telemetry", "rollback_success", "step_metrics", "eval_metrics", "evaluation_complete", "training_complete", "z"]
)
TIMES = st.sampled_from(["2024-01-15T10:30:00Z", "2024-01-15", "noon", 5, 1e400, None, "9999-12-31T23:59:59-23:59"])
STATES = st.fixed_dictionaries(
    {"log_history": st.lists(ROWS | VALUES, max_size=6)},
    optional={"max_steps": VALUES, "train_batch_size": VALUES, "num_train_epochs": VALUES, "trial_params": VALUES},
)
LLAMA = st.builds(
    lambda row, step, total: {**row, "current_steps": step, "total_steps": total}, ROWS, VALUES, st.integers(0, 20)
)
FLAT = st.builds(lambda row, event, step: {**row, "event": event, "step": step}, ROWS, EVENTS, VALUES).map(
    lambda row: {name: value for name, value in row.items() if name not in {"schema", "run_id", "data"}}
)
NESTED = st.builds(
    lambda data, event, time: {"timestamp": time, "event": event, "data": data},
    st.builds(lambda row, step: {**row, "step": step}, ROWS, st.integers(0, 20) | VALUES),
    EVENTS,
    TIMES,
)


def write(content: bytes, name: str) -> Path:
    """A file of its own in a folder of its own."""
    folder = Path(tempfile.mkdtemp())
    path = folder / name
    path.write_bytes(content)
    return path


def lines(rows: list[Any]) -> bytes:
    """JSONL as these tools write it, with bare NaN and escaped surrogates."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def events_of(one: Importer, content: bytes, name: str) -> list[Event]:
    """What an importer gives for a file; no events when it refuses it in a sentence."""
    path = write(content, name)
    try:
        return [item for item in one.read(path) if isinstance(item, Event)]
    except InputError as error:
        assert str(error).startswith(str(path))  # noqa: PT017 - the sentence is what is tested
        return []
    finally:
        path.unlink()
        path.parent.rmdir()


def check(events: Iterator[Event] | list[Event]) -> None:
    """Every event is accepted by the published schema, and the first is run_start."""
    for place, event in enumerate(events):
        assert place or event.event == "run_start"
        made = record(event)
        json.dumps(made, allow_nan=False).encode()
        faults = [error.message for error in VALIDATOR.iter_errors(made)]
        assert not faults, (made, faults)


@settings(max_examples=300, deadline=None)
@given(document=STATES)
def test_any_state_gives_valid_events(document: dict[str, Any]) -> None:
    """Given a state with rows of any shape, when it is read, then the schema accepts every event."""
    check(events_of(importer("hf-trainer-state"), json.dumps(document).encode(), "s.json"))


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(LLAMA, min_size=1, max_size=5))
def test_any_llama_factory_row_gives_valid_events(rows: list[dict[str, Any]]) -> None:
    """Given rows with the fields of LogCallback and any values, when they are read, then every event is valid."""
    events = events_of(importer("llama-factory"), lines(rows), "t.jsonl")
    assert events
    check(events)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(NESTED, min_size=1, max_size=5))
def test_any_nested_record_gives_valid_events(rows: list[dict[str, Any]]) -> None:
    """Given records of the nested layout with any data, when they are read, then every event is valid."""
    events = events_of(importer("gradience-nested"), lines(rows), "l.jsonl")
    assert events
    check(events)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(FLAT, min_size=1, max_size=5))
def test_any_flat_record_gives_valid_events(rows: list[dict[str, Any]]) -> None:
    """Given records of the flat layout with any values, when they are read, then every event is valid."""
    events = events_of(importer("gradience-flat"), lines(rows), "g.jsonl")
    assert events
    check(events)


@settings(max_examples=200, deadline=None)
@given(
    header=st.lists(st.text(max_size=4) | NAMES, max_size=5),
    rows=st.lists(st.lists(st.text(max_size=4) | st.sampled_from(["1", "2.5", "nan", ""]), max_size=6), max_size=6),
)
def test_any_table_gives_valid_events(header: list[str], rows: list[list[str]]) -> None:
    """Given a table with any columns, step among them, and any cells, when it is read, then every event is valid."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([[*header, "step"], *rows])
    check(events_of(importer("lightning-csv"), text.getvalue().encode("utf-8", "replace"), "metrics.csv"))


@pytest.mark.parametrize("one", IMPORTERS, ids=lambda one: one.name)
@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200))
def test_no_bytes_break_an_importer(one: Importer, content: bytes) -> None:
    """Given any bytes, when they are sniffed and read, then there is an answer, or one sentence."""
    assert one.sniff(content, Path("metrics.csv")) in {True, False}
    check(events_of(one, content, "x"))


@pytest.mark.parametrize("path", LOGS, ids=lambda path: f"{path.parent.name}-{path.name}")
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_logs_break_no_importer(path: Path, data: st.DataObject) -> None:
    """Given a real log with bytes cut, changed or put in, when any importer reads it, then what comes out is valid."""
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=5))
    one = data.draw(st.sampled_from(IMPORTERS))
    assert one.sniff(bytes(content), path) in {True, False}
    check(events_of(one, bytes(content), path.name))


@given(value=st.integers(-(10**50), 10**50) | st.floats())
def test_numbers_in_strings_are_what_python_wrote(value: float) -> None:
    """Given any number that Python has written, when it is read out of the string, then it is the same one."""
    found = number_in(repr(value))
    assert repr(found) == repr(value)
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text", ["", "0012", "1,5", "22%", "1:02", "0x1", "1_000", "+1", "1.", ".5", "\u0663", "1e", "9" * 65]
)
def test_other_strings_are_no_numbers(text: str) -> None:
    """Given a string that is no JSON number, when it is looked at, then it stays what it is."""
    assert number_in(text) is None
