"""The frames of many runs against json.loads over the same files, to the last bit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.runs import load_runs
from tests.analysis import reference
from tests.analysis.records import SCHEMA, end, evaluation, record, start, train, write
from tests.analysis.runs.oracle import equal_rows, eval_rows, rows_of, step_rows

FIXTURES = Path(__file__).parents[3] / "fixtures"
RUNS = {folder: sorted(folder.glob("*.jsonl")) for folder in sorted((FIXTURES / "runs").iterdir()) if folder.is_dir()}
ALWAYS_FLOATS = ("ts", "loss", "lr", "grad_norm", "epoch", "value")


def in_segment_order(files: list[Path]) -> list[Path]:
    """`run.jsonl` before `run.1.jsonl`."""
    return sorted(files, key=lambda path: (path.name != "run.jsonl", path.name))


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: folder.name)
def test_frames_of_a_recorded_run_equal_its_json(folder: Path) -> None:
    """Given a recorded run, when its frames are built, then each number is that of the file, of the same kind."""
    runs, files = load_runs(folder), in_segment_order(RUNS[folder])
    assert equal_rows(rows_of(runs.steps), step_rows(files), ALWAYS_FLOATS)
    assert equal_rows(rows_of(runs.evals, without=["type", "text"]), eval_rows(files), ALWAYS_FLOATS)


def test_frames_of_all_runs_are_those_of_each_below_the_other() -> None:
    """Given a folder of runs, when loaded at once, then the rows are those of the runs, in order of their paths."""
    runs = load_runs(FIXTURES / "runs")
    expected = [row for files in RUNS.values() for row in step_rows(in_segment_order(files))]
    assert equal_rows(rows_of(runs.steps), expected, ALWAYS_FLOATS)
    assert len(runs) == len(RUNS)


@reference.needs_reference_runs
@pytest.mark.parametrize("name", reference.V1)
def test_frames_of_reference_runs_equal_their_json(name: str) -> None:
    """Given a file of another emitter, when loaded, then each number is that of json.loads."""
    runs, files = load_runs(reference.FOLDER / name), [reference.FOLDER / name]
    assert equal_rows(rows_of(runs.steps), step_rows(files), ALWAYS_FLOATS)
    assert equal_rows(rows_of(runs.evals, without=["type", "text"]), eval_rows(files), ALWAYS_FLOATS)


NUMBERS = st.one_of(
    st.none(), st.floats(width=64), st.integers(-(2**53), 2**53), st.sampled_from([0.1, 5e-324, 1.7976931348623157e308])
)
INTEGERS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))


@given(st.lists(st.tuples(NUMBERS, INTEGERS), min_size=1, max_size=30))
def test_any_number_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[float | int | None, int | None]]
) -> None:
    """Given any numbers and integers, when written and loaded, then they are the same, absent and NaN apart."""
    lines = [start()]
    for step, (loss, tokens) in enumerate(values):
        fields: dict[str, Any] = {"loss": loss, "tokens": tokens}
        if isinstance(loss, float) and not math.isfinite(loss):
            mark = "nan" if math.isnan(loss) else "inf" if loss > 0 else "-inf"
            fields |= {"loss": None, "nonfinite": {"/loss": mark}}
        lines.append(record("train_step", step, **{name: value for name, value in fields.items() if value is not None}))
        if lines[-1].get("nonfinite"):
            lines[-1]["loss"] = None
    steps = load_runs(write(tmp_path_factory.mktemp("any") / "run.jsonl", lines)).steps
    for (loss, tokens), found, counted in zip(
        values, steps["loss"].tolist(), steps.get("tokens", [pd.NA] * 99), strict=False
    ):
        if loss is None:
            assert found is pd.NA
        elif isinstance(loss, float) and math.isnan(loss):
            assert isinstance(found, float)
            assert math.isnan(found)
        else:
            assert found == loss
        assert (counted is pd.NA) if tokens is None else counted == tokens


def test_nan_and_absent_stay_apart(tmp_path: Path) -> None:
    """Given a NaN loss, a row without a loss and a number, when loaded, then isna is true of the second alone."""
    nan = record("train_step", 2, loss=None, nonfinite={"/loss": "nan"})
    path = write(
        tmp_path / "run.jsonl", [start(), record("train_step", 1, loss=1.5), nan, record("train_step", 3, lr=0.1)]
    )
    steps = load_runs(path).steps
    assert steps["loss"].isna().tolist() == [False, False, True]
    assert math.isnan(steps["loss"].tolist()[1])
    assert steps["loss"].dropna().tolist()[0] == 1.5
    assert len(steps["loss"].dropna()) == 2
    assert math.isnan(steps.set_index("step")["loss"].loc[2])
    assert pd.concat([steps, steps])["loss"].isna().sum() == 2


def test_integers_stay_integers(tmp_path: Path) -> None:
    """Given an integer beyond 2**53 in a column of integers, when loaded, then it is exact and an int."""
    big = 2**53 + 1
    path = write(
        tmp_path / "run.jsonl", [start(), record("train_step", 1, tokens=big), record("train_step", 2, loss=1)]
    )
    steps = load_runs(path).steps
    assert steps["tokens"].tolist() == [big, pd.NA]
    assert str(steps["tokens"].dtype) == "int64[pyarrow]"
    assert str(steps["loss"].dtype) == "double[pyarrow]"


def test_a_number_in_quotes_is_reported_and_not_converted(tmp_path: Path) -> None:
    """Given a loss written as a string, when loaded, then it is NA, stands as text beside it, and there is an issue."""
    path = write(
        tmp_path / "run.jsonl", [start(), record("train_step", 1, score="0.5"), record("train_step", 2, score=1.5)]
    )
    runs = load_runs(path)
    assert runs.steps["score"].tolist() == [pd.NA, 1.5]
    assert runs.steps["score__text"].tolist() == ["0.5", pd.NA]
    assert "number_in_string" in runs.issues["code"].tolist()


def test_learning_rates_of_parameter_groups(tmp_path: Path) -> None:
    """Given a list of learning rates, when loaded, then each group has its column."""
    path = write(
        tmp_path / "run.jsonl", [start(), record("train_step", 1, lr=[0.1, 0.2]), record("train_step", 2, lr=0.3)]
    )
    steps = load_runs(path).steps
    assert steps["lr"].tolist() == [0.1, 0.3]
    assert steps["lr_1"].tolist() == [0.2, pd.NA]


def test_columns_of_steps(tmp_path: Path) -> None:
    """Given a scalar called segment, when loaded, then the segment is ours, and no column is there twice."""
    path = write(tmp_path / "run.jsonl", [start(), record("train_step", 1, loss=1.0, segment=9, zeta=1, alpha=2)])
    steps = load_runs(path).steps
    assert list(steps.columns)[:8] == ["run_id", "segment", "step", "ts", "loss", "lr", "grad_norm", "epoch"]
    assert list(steps.columns)[-1] == "line"
    assert steps.columns.is_unique
    assert steps["segment"].tolist() == [0]
    assert steps["x_segment"].tolist() == [9]


def test_evals_keep_what_is_no_number(tmp_path: Path) -> None:
    """Given metrics of each JSON type, when loaded, then numbers are values, and the rest is text with its type."""
    metrics = {"loss": 1, "ppl": 2.5, "note": "good", "ok": True, "none": None, "list": [1, 2], "big": 2**60 + 1}
    evals = load_runs(write(tmp_path / "run.jsonl", [start(), evaluation(1, "dev", **metrics)])).evals
    found = {row["metric"]: row for row in rows_of(evals)}
    assert set(evals["split"]) == {"val"}
    assert found["loss"]["value"] == 1.0
    assert found["loss"]["type"] == "integer"
    assert found["ppl"]["value"] == 2.5
    assert json.loads(found["note"]["text"]) == "good"
    assert found["ok"]["type"] == "boolean"
    assert found["none"]["type"] == "null"
    assert json.loads(found["list"]["text"]) == [1, 2]
    assert json.loads(found["big"]["text"]) == 2**60 + 1
    assert "value" not in found["note"]


def test_metrics_alerts_and_issues(tmp_path: Path) -> None:
    """Given metrics, an alert and a bad line, when loaded, then each has its row, with the line it stands in."""
    lines = [
        start(),
        record("metrics", 1, kind="lora_audit", metrics={"n_layers": 2, "by_type": {"attn": {"params": 5}}}),
        record("alert", 1, severity="warning", code="GUARD_SKIP", message="skipped", context={"a": [1]}),
        "oops",
    ]
    runs = load_runs(write(tmp_path / "run.jsonl", lines))
    assert dict(zip(runs.metrics["metric"], runs.metrics["value"], strict=True)) == {
        "n_layers": 2.0,
        "by_type.attn.params": 5.0,
    }
    assert runs.metrics["kind"].tolist() == ["lora_audit"] * 2
    assert runs.alerts["code"].tolist() == ["GUARD_SKIP"]
    assert json.loads(runs.alerts["context"].tolist()[0]) == {"a": [1]}
    assert runs.alerts["line"].tolist() == [3]
    assert 4 in runs.issues["line"].tolist()


def test_a_frame_that_was_changed_is_built_as_before(tmp_path: Path) -> None:
    """Given a frame that the user changed, when the frame is asked for again, then it is as it was read."""
    runs = load_runs(write(tmp_path / "run.jsonl", [start(), *train([1, 2])]))
    first = runs.steps
    first["loss"] = 0.0
    first["new"] = 1
    first.loc[0, "step"] = 99
    assert runs.steps["loss"].tolist() == [1.99, 1.98]
    assert runs.steps["step"].tolist() == [1, 2]
    assert "new" not in runs.steps


def test_raw_keeps_what_is_superseded(tmp_path: Path) -> None:
    """Given a run resumed from step 2, when loaded, then steps shows the later segment and raw shows both."""
    write(tmp_path / "run.jsonl", [start(), *train([1, 2, 3, 4])])
    write(
        tmp_path / "run.1.jsonl", [start(ts=50.0, segment=1, resume_step=2), *train([3, 4], ts=51.0, loss=9.0), end()]
    )
    runs = load_runs(tmp_path)
    assert runs.steps["step"].tolist() == [1, 2, 3, 4]
    assert runs.steps["segment"].tolist() == [0, 0, 1, 1]
    assert runs.steps["loss"].tolist() == [1.99, 1.98, 8.97, 8.96]
    assert runs.raw.steps.num_rows == 6


def test_other_ranks_are_left_to_raw(tmp_path: Path) -> None:
    """Given telemetry of two ranks, when loaded, then the frames show rank 0 alone."""
    write(tmp_path / "run.jsonl", [start(), *train([1, 2])])
    write(tmp_path / "run.rank1.jsonl", [start(), *train([1, 2], loss=7.0)])
    runs = load_runs(tmp_path)
    assert len(runs) == 1
    assert runs.steps["loss"].tolist() == [1.99, 1.98]
    assert runs.raw.steps.num_rows == 4


def test_an_empty_frame_has_its_columns(tmp_path: Path) -> None:
    """Given a run without evaluations and alerts, when asked for them, then the frames are empty, not missing."""
    runs = load_runs(write(tmp_path / "run.jsonl", [start()]))
    for frame in (runs.steps, runs.evals, runs.metrics, runs.alerts, runs.issues):
        assert len(frame) == 0
        assert len(frame.columns) >= 8
    assert SCHEMA not in runs.steps.columns
