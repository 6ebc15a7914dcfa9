"""trainer_log.jsonl: the numbers line by line against `json.loads`, and the layouts that share the name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.errors import InputError
from tests.analysis.importers.foreign import FOLDER, codes, importer, jsonl, of, read, series

LOGS = FOLDER / "llama_factory"


def rows_of(layout: str) -> list[dict[str, Any]]:
    """The rows of a fixture by the standard library."""
    return [json.loads(line) for line in (LOGS / layout / "trainer_log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("layout", "step", "rate"),
    [
        ("current", "current_steps", "lr"),
        ("older", "current_steps", "learning_rate"),
        ("v1_layout", "step", "learning_rate"),
    ],
)
def test_the_numbers_are_those_of_the_file(layout: str, step: str, rate: str) -> None:
    """Given a log of each layout, when it is read, then loss, rate and line are those of the file."""
    rows = [(line, row) for line, row in enumerate(rows_of(layout), 1) if row.get("loss") is not None]
    events, issues = read(LOGS / layout / "trainer_log.jsonl")
    found = [(e.line, e.step, e.payload["loss"], e.payload["lr"]) for e in of(events, "train_step")]
    assert found == [(line, row[step], row["loss"], row[rate]) for line, row in rows]
    assert len(found) == 10
    assert not codes(issues)


@pytest.mark.parametrize("layout", ["current", "older"])
def test_evaluations_speed_and_end(layout: str) -> None:
    """Given a whole log, when it is read, then evaluations, speed in tokens and the end are under v1's names."""
    rows = rows_of(layout)
    events, _ = read(LOGS / layout / "trainer_log.jsonl")
    assert [(e.step, e.payload["split"], e.payload["metrics"]) for e in of(events, "eval")] == [
        (row["current_steps"], "val", {"loss": row["eval_loss"]}) for row in rows if row.get("eval_loss") is not None
    ]
    speeds = [e.payload["metrics"] for e in of(events, "metrics") if e.payload["kind"] == "throughput"]
    assert speeds == [{"tokens_per_s": row["throughput"]} for row in rows]
    assert series(events, "tokens") == [(row["current_steps"], row["total_tokens"]) for row in rows if row.get("loss")]
    assert [dict(e.payload) for e in of(events, "run_end")] == [{"status": "ok", "global_step": 20}]
    assert events[0].payload["config"] == {"training": {"max_steps": 20}}


def test_a_rerun_that_was_appended_is_a_segment() -> None:
    """Given a log with a rerun appended, when it is read, then the rerun is segment 1, and nothing is left out."""
    events, issues = read(LOGS / "appended" / "trainer_log.jsonl")
    assert len(of(events, "run_start")) == 2
    assert [step for step, _ in series(events, "loss")] == [2, 4, 6, 8, 10, 12, 14, 12, 14, 16, 18, 20]
    assert codes(issues) == ["new_segment"]


def test_the_progress_of_a_prediction_ends_nothing(tmp_path: Path) -> None:
    """Given the rows of a prediction, which have no epoch, when they are read, then no training has ended."""
    rows = [{"current_steps": n, "total_steps": 10, "percentage": n * 10.0} for n in (5, 10)]
    events, _ = read(jsonl(tmp_path / "trainer_log.jsonl", rows))
    assert [event.event for event in events] == ["run_start", "metrics", "metrics"]


def test_bad_lines_cost_themselves(tmp_path: Path) -> None:
    """Given a log with bad lines and a torn end, when read, then each is an issue at its line and the rest is read."""
    good = {"current_steps": 1, "total_steps": 9, "loss": 1.0}
    path = jsonl(tmp_path / "t.jsonl", [good, "oops", "[1]", '{"a": 1}', "", {**good, "current_steps": 2}])
    path.write_bytes(path.read_bytes() + b'{"current_steps": 3, "tot')
    events, issues = read(path)
    assert series(events, "loss") == [(1, 1.0), (2, 1.0)]
    assert [(issue.code, issue.line) for issue in issues if issue.line] == [
        ("invalid_json", 2),
        ("not_an_object", 3),
        ("unknown_record", 4),
        ("torn_tail", 7),
    ]


def test_a_line_over_the_cap_is_reported_not_read(tmp_path: Path) -> None:
    """Given a row of more than 1 MiB, when the log is read, then it is reported and the next row is read."""
    good = {"current_steps": 2, "total_steps": 9, "loss": 1.0}
    path = jsonl(tmp_path / "t.jsonl", [good, {**good, "text": "x" * (1 << 20)}, {**good, "current_steps": 4}])
    events, issues = read(path)
    assert series(events, "loss") == [(2, 1.0), (4, 1.0)]
    assert [(issue.code, issue.line) for issue in issues if issue.line] == [("line_too_long", 2)]


def test_a_file_without_a_row_of_it_is_refused(tmp_path: Path) -> None:
    """Given another file, when it is read as this format, then one sentence says that there is nothing of it."""
    path = jsonl(tmp_path / "t.jsonl", [{"a": 1}])
    with pytest.raises(InputError, match="holds no record of a LLaMA-Factory"):
        list(importer("llama-factory").read(path))
