"""Curves side by side, against a dictionary by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.runs import load_runs
from gradience_analysis.runs.expression import UnknownColumnError
from gradience_analysis.runs.frames import aligned
from gradience_analysis.tables.arrow import pa
from tests.analysis.records import evaluation, record, start, train, write


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two runs with different steps."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    nan = record("train_step", 3, run_id="id-a", loss=None, nonfinite={"/loss": "nan"})
    write(
        tmp_path / "a/run.jsonl",
        [start(run_id="id-a"), *train([1, 2], run_id="id-a"), nan, evaluation(2, "eval", run_id="id-a", loss=1.5)],
    )
    throughput = record("metrics", 4, run_id="id-b", kind="throughput", metrics={"step_s": 0.25})
    write(tmp_path / "b/run.jsonl", [start(run_id="id-b"), *train([2, 4], run_id="id-b"), throughput])
    return tmp_path


def test_a_curve_is_aligned_on_all_steps(two: Path) -> None:
    """Given runs with different steps, when a curve is asked for, then there is a row a step and a column a run."""
    curve = load_runs(two).curve("loss")
    assert list(curve.columns) == ["a", "b"]
    assert curve.index.tolist() == [1, 2, 3, 4]
    assert curve.index.name == "step"
    assert curve["b"].tolist() == [pd.NA, 1.98, pd.NA, 1.96]
    assert curve["a"].isna().tolist() == [False, False, False, True]
    assert math.isnan(curve["a"].tolist()[2])


def test_curves_of_evaluations_and_metrics(two: Path) -> None:
    """Given a metric of a split or of a kind, when its curve is asked for, then a run without it is a column of NA."""
    runs = load_runs(two)
    assert runs.curve("val.loss").loc[2].tolist() == [1.5, pd.NA]
    assert runs.curve("throughput.step_s").loc[4].tolist() == [pd.NA, 0.25]


def test_an_unknown_curve_says_what_there_is(two: Path) -> None:
    """Given a mistyped metric, when its curve is asked for, then the error names the one that was meant."""
    with pytest.raises(UnknownColumnError, match=r"Did you mean val\.loss"):
        load_runs(two).curve("val.los")
    with pytest.raises(UnknownColumnError):
        load_runs(two).curve("run_id")


ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.floats(allow_nan=False)), max_size=25)


@given(ROWS)
def test_alignment_is_that_of_a_dictionary(rows: list[tuple[str, int, float]]) -> None:
    """Given any rows of run, step and value, when aligned, then each cell holds the last value of its run and step."""
    table = pa.table(
        {
            "run_id": pa.array([row[0] for row in rows], pa.string()),
            "step": pa.array([row[1] for row in rows], pa.int64()),
            "value": pa.array([row[2] for row in rows], pa.float64()),
        }
    )
    found = aligned(table, {"b": "B", "a": "A", "x": "X"})
    expected: dict[tuple[str, int], Any] = {(run, step): value for run, step, value in rows}
    assert found.index.tolist() == sorted({step for _, step, _ in rows})
    assert list(found.columns) == ["B", "A", "X"]
    for label in ("A", "B", "X"):
        for step, value in zip(found.index.tolist(), found[label].tolist(), strict=True):
            wanted = expected.get((label.lower(), step))
            assert value is pd.NA if wanted is None else value == wanted
