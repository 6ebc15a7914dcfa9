"""The two early layouts of this format: the real samples where they are, and the forms that are known."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gradience_analysis.errors import InputError
from gradience_analysis.importers import find_importer
from gradience_schema import load_schema, registry
from tests.analysis.importers.foreign import codes, importer, jsonl, of, read, record, series
from tests.analysis.reference import FOLDER, FOREIGN, V1, needs_reference_runs

VALIDATOR = Draft202012Validator(load_schema(), registry=registry())


def nested(event: str, second: int = 0, **data: Any) -> dict[str, Any]:
    """A record of the nested layout."""
    return {"timestamp": f"2024-01-15T10:30:{second:02}.500Z", "event": event, "data": data}


@needs_reference_runs
@pytest.mark.parametrize("name", FOREIGN)
def test_the_real_samples_are_read_whole(name: str) -> None:
    """Given the real samples, when they are read, then each line gives an event at its own time, and all are valid."""
    lines = [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]
    events, issues = read(FOLDER / name)
    assert not codes(issues)
    times = [dt.datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines]
    assert [event.ts for event in events[1:]] == pytest.approx(times, abs=1e-6)
    assert [event.line for event in events[1:]] == list(range(1, len(lines) + 1))
    assert not [error.message for event in events for error in VALIDATOR.iter_errors(record(event))]
    assert [event.payload["status"] for event in of(events, "run_end")] == ["ok"]
    steps = [x["data"] for x in lines if x["event"] in {"step_metrics", "training_step"}]
    assert series(events, "loss") == [(step["step"], step["loss"]) for step in steps]
    assert events[0].payload["config"]["model_name"] == "microsoft/DialoGPT-small"
    assert events[0].payload["config"]["lora"]["r"] == 16
    evals = [x["data"] for x in lines if x["event"] in {"eval_metrics", "evaluation_complete"}]
    expected = [(x["step"], x.get("eval_metrics", x).get("exact_match", x.get("eval_exact_match"))) for x in evals]
    assert [(e.step, e.payload["metrics"]["exact_match"]) for e in of(events, "eval")] == expected


@needs_reference_runs
@pytest.mark.parametrize("name", V1)
def test_files_of_v1_are_nobodys(name: str) -> None:
    """Given real files of v1, when an importer is looked for, then there is none."""
    assert find_importer(FOLDER / name) is None


def test_the_nested_layout_in_v1_names(tmp_path: Path) -> None:
    """Given records of the nested layout, when they are read, then they are v1's events with v1's names."""
    lines = [
        nested("training_start", 0, model="m", dataset="d", seed=3, lora_config={"r": 4, "alpha": "x"}),
        nested("step_metrics", 1, step=10, loss=2.0, learning_rate=0.1),
        nested("eval_metrics", 2, step=10, eval_loss=1.5, eval_samples=8, memory=3),
        nested("lora_layer_update", 3, step=12, layers=[1]),
        nested("training_complete", 4, final_loss=1.0),
        nested("model_saved", 5, size=2),
    ]
    events, issues = read(jsonl(tmp_path / "l.jsonl", lines))
    assert not codes(issues)
    assert [(event.event, event.step, dict(event.payload)) for event in events[2:]] == [
        ("train_step", 10, {"loss": 2.0, "lr": 0.1}),
        ("eval", 10, {"split": "val", "metrics": {"loss": 1.5, "n": 8}, "memory": 3}),
        ("metrics", 12, {"kind": "lora_layer_update", "metrics": {"layers": [1]}}),
        ("run_end", None, {"status": "ok", "final_loss": 1.0}),
        ("metrics", None, {"kind": "model_saved", "metrics": {"size": 2}}),
    ]
    start = events[0].payload
    assert start["config"] == {
        "model_name": "m",
        "dataset_name": "d",
        "training": {"seed": 3},
        "lora": {"r": 4},
    }
    assert start["meta"]["ts_source"] == "file"
    assert events[0].ts == events[1].ts == 1705314600.5


@pytest.mark.parametrize(
    ("timestamp", "ts", "code"),
    [
        ("2024-01-15T10:30:00Z", 1705314600.0, []),
        ("2024-01-15T12:30:00+02:00", 1705314600.0, []),
        ("2024-01-15T10:30:00", 1705314600.0, ["naive_timestamp"]),
        (1705314600.25, 1705314600.25, []),
        ("noon", 7.0, ["bad_timestamp"]),
        (None, 7.0, ["bad_timestamp"]),
        (10**400, 7.0, ["bad_timestamp"]),
        (True, 7.0, ["bad_timestamp"]),
    ],
)
def test_times_are_read_or_said_to_be_none(timestamp: Any, ts: float, code: list[str], tmp_path: Path) -> None:
    """Given a time of some form after one of 7 s, when it is read, then it is Unix time, or stays at 7 s."""
    first = {"timestamp": 7, "event": "start", "data": {}}
    second = {"timestamp": timestamp, "event": "step_metrics", "data": {"step": 1, "loss": 1.0}}
    events, issues = read(jsonl(tmp_path / "l.jsonl", [first, second]))
    assert events[-1].ts == ts
    assert codes(issues) == code


def test_a_log_that_starts_over_has_segments(tmp_path: Path) -> None:
    """Given steps that go back, when the nested log is read, then segment 1 starts there, at the time of its record."""
    lines = [nested("step_metrics", 1, step=10, loss=2.0), nested("step_metrics", 9, step=5, loss=1.0)]
    events, issues = read(jsonl(tmp_path / "l.jsonl", lines))
    assert [event.event for event in events] == ["run_start", "train_step", "run_start", "train_step"]
    assert events[2].ts == events[3].ts == 1705314609.5
    assert codes(issues) == ["new_segment"]


def test_the_flat_layout_in_v1_names(tmp_path: Path) -> None:
    """Given records of the flat layout, when they are read, then they are steps, spectral metrics and guard alerts."""
    lines = [
        {"event": "telemetry", "step": 5, "train_loss": 2.0, "spectral_kappa": 11.5, "risk_level": "STABLE"},
        {"event": "rollback_success", "step": 3, "reason": "nan"},
        {"event": "snapshot", "step": 6, "ring": 2},
    ]
    events, issues = read(jsonl(tmp_path / "g.jsonl", lines))
    assert not codes(issues)
    assert [(event.event, event.step, dict(event.payload)) for event in events[1:]] == [
        ("train_step", 5, {"loss": 2.0}),
        ("metrics", 5, {"kind": "spectral", "metrics": {"kappa": 11.5, "risk_level": "STABLE"}}),
        (
            "alert",
            3,
            {
                "severity": "warning",
                "code": "GUARD_ROLLBACK",
                "message": "rolled back: nan",
                "context": {"reason": "nan"},
            },
        ),
        ("metrics", 6, {"kind": "snapshot", "metrics": {"ring": 2}}),
    ]
    assert not [error.message for event in events for error in VALIDATOR.iter_errors(record(event))]


@pytest.mark.parametrize("name", ["gradience-nested", "gradience-flat"])
def test_a_file_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    """Given a file without a record of the layout, when it is read as one, then one sentence says so."""
    with pytest.raises(InputError, match="holds no record of an early Gradience log"):
        list(importer(name).read(jsonl(tmp_path / "x.jsonl", [{"a": 1}, "oops"])))
