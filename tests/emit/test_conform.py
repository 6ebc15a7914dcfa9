"""Contract: whatever is logged, every line written is valid telemetry/v1 and loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradience_emit import TelemetryWriter
from gradience_schema import EVENT_TYPES, ConfigSnapshot, LoraSnapshot, Recommendation, schema_files
from tests.emit import oracle, payloads


def field_names(schema: Any) -> Iterator[str]:
    """Every property that a schema names, at any depth."""
    if isinstance(schema, dict):
        properties = schema.get("properties")
        yield from properties if isinstance(properties, dict) else ()
        for part in schema.values():
            yield from field_names(part)


FIELDS = sorted({name for schema in schema_files().values() for name in field_names(schema)})
SCALARS = (
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.sampled_from(["", "ok", "error", "val", -1e-9])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4)
)
EVENTS = st.sampled_from([*EVENT_TYPES, "my_event", "train_stp"])
PAYLOADS = st.dictionaries(st.sampled_from(FIELDS), VALUES | payloads.ODD, max_size=6)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(EVENTS, st.none() | st.integers(-3, 10) | payloads.ODD_SCALARS, PAYLOADS)
def test_every_record_of_any_payload_is_valid(tmp_path: Path, event: str, step: Any, payload: dict[str, Any]) -> None:
    """Given any values under the schema's own names, when they are logged, then the line is valid, none lost."""
    path = tmp_path / "run.jsonl"
    payload.pop("step", None)
    for old in tmp_path.iterdir():
        old.unlink()
    writer = TelemetryWriter(path)
    writer.log(event, step, **payload)
    writer.close()
    (record,) = oracle.read_strict(writer.path)
    oracle.assert_valid(record)
    assert writer.dropped == writer.faults == 0
    oracle.restored(record)
    renamed = record.get("renamed", {})
    for pointer in renamed:
        parent, key = oracle.locate(record, pointer)
        assert key in parent, f"{pointer} leads nowhere"


TYPED = [
    ("train_step", {"loss": 0.5, "lr": [1e-4, 1e-5], "grad_norm": 1.5, "epoch": 0.1, "tokens": 5}),
    ("eval", {"split": "val", "metrics": {"loss": 0.1, "ppl": 1.1, "n": 7}}),
    ("metrics", {"kind": "memory", "metrics": {"rss_mb": 5.0}}),
    ("alert", {"severity": "warning", "code": "C", "message": "m", "context": {"a": [1, None]}}),
    ("recommendation", {"recommendations": [Recommendation(severity="info", action="a", confidence=0.5).to_dict()]}),
    (
        "run_start",
        {"config": ConfigSnapshot(model_name="m", lora=LoraSnapshot(r=8)).to_dict(), "meta": {"host": "h"}},
    ),
    ("run_end", {"status": "aborted", "reason": "r"}),
]


@pytest.mark.parametrize(("event", "payload"), TYPED, ids=[event for event, _ in TYPED])
def test_a_correct_payload_is_written_as_it_is(tmp_path: Path, event: str, payload: dict[str, Any]) -> None:
    """Given a payload of the right types, when it is logged, then the record is the envelope and that payload."""
    with TelemetryWriter(tmp_path / "run.jsonl", "r") as writer:
        writer.log(event, 3, **payload)
    record = oracle.read_strict(writer.path)[0]
    oracle.assert_valid(record)
    ts = record.pop("ts")
    envelope = {"schema": "gradience.vnext.telemetry/v1", "run_id": "r", "event": event, "step": 3, "seq": 0}
    assert oracle.same(record, {**envelope, **payload})
    assert ts > 1.7e9


def test_a_value_of_the_wrong_type_moves_aside(tmp_path: Path) -> None:
    """Given a text for a loss and NaN in a list that is no lr, when logged, then both move, pointers too."""
    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        writer.train_step(1, loss="low", lr=[float("nan"), "x"])
    record = oracle.read_strict(writer.path)[0]
    assert record["x_loss"] == "low"
    assert record["renamed"] == {"/x_loss": "loss", "/x_lr": "lr"}
    assert record["nonfinite"] == {"/x_lr/0": "nan"}
    assert "loss" not in record


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("eval", {"split": "unknown", "metrics": {}}),
        ("metrics", {"kind": "unknown", "metrics": {}}),
        ("alert", {"severity": "error", "code": "UNKNOWN", "message": ""}),
        ("recommendation", {"recommendations": []}),
        ("run_start", {"config": {}}),
        ("run_end", {"status": "error"}),
    ],
)
def test_a_missing_field_gets_the_cautious_value(tmp_path: Path, event: str, expected: dict[str, Any]) -> None:
    """Given an empty payload, when it is logged, then the required fields are there and claim nothing good."""
    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        writer._emit(event, None, {})
    record = oracle.read_strict(writer.path)[0]
    oracle.assert_valid(record)
    assert {key: record[key] for key in expected} == expected
