"""`df.gradience` on frames of runs, also on parts of them and on frames that pandas made."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.errors import GradienceError
from gradience_analysis.runs import Runs, load_runs
from gradience_analysis.runs.expression import UnknownColumnError

FIXTURES = Path(__file__).parents[3] / "fixtures"


@pytest.fixture(scope="module")
def runs() -> Runs:
    """The recorded runs."""
    return load_runs(FIXTURES / "runs")


def test_curves_are_those_of_the_runs(runs: Runs) -> None:
    """Given frames of steps and evaluations, when a curve is asked for, then it is that of the runs, by run id."""
    for frame, metric in ((runs.steps, "loss"), (runs.evals, "val.loss"), (runs.metrics, "throughput.step_s")):
        curve = frame.gradience.curve(metric)
        assert list(curve.columns) == [run_id for run_id in runs.run_ids if run_id in set(frame["run_id"])]
        pd.testing.assert_frame_equal(
            curve.rename(columns=dict(runs.names)), runs.curve(metric)[[runs.names[run_id] for run_id in curve.columns]]
        )
    late = runs.steps[runs.steps["step"] > 20].gradience.curve("loss")
    assert late.index.min() == 22


def test_last_and_best_rows(runs: Runs) -> None:
    """Given a frame, when asked for its last and best rows, then they are rows of it, one a run (split and metric)."""
    steps, evals = runs.steps, runs.evals
    last = steps.gradience.last()
    assert last["step"].tolist() == steps.groupby("run_id", sort=False)["step"].max().tolist()
    assert len(evals.gradience.last()) == len(evals[["run_id", "split", "metric"]].drop_duplicates())
    best = evals.gradience.best("val.loss")
    assert best["value"].tolist() == runs.runs["val.loss.best"].tolist()
    assert best["step"].tolist() == runs.runs["val.loss.best_step"].tolist()
    assert steps.gradience.best("loss")["loss"].tolist() == runs.runs["loss.min"].tolist()


def test_the_gap_is_that_of_the_runs(runs: Runs) -> None:
    """Given evaluations of split train, when the gap is taken from the frame, then it is that of the row of the run."""
    gap = runs.evals.gradience.gap()
    assert gap["gap"].tolist() == runs.runs["gap"].tolist()
    assert gap.index.tolist() == runs.run_ids
    without = runs.evals[runs.evals["split"] != "train"].gradience.gap()
    assert without["gap"].isna().all()
    assert "evaluate split train" in without["reason"].tolist()[0]


def test_smoothing_by_hand() -> None:
    """Given values with a NaN, a gap and two runs, when smoothed, then each weighs half for each half-life of steps."""
    frame = pd.DataFrame(
        {"run_id": ["a", "a", "b", "a", "a"], "step": [0, 10, 5, 20, 40], "loss": [1.0, 3.0, 7.0, math.nan, 5.0]}
    )
    smooth = frame.gradience.smooth("loss", halflife=10).tolist()
    assert smooth[:3] == [1.0, (0.5 * 1 + 3) / 1.5, 7.0]
    assert math.isnan(smooth[3])
    assert smooth[4] == pytest.approx((1 / 16 + 3 / 8 + 5) / (1 / 16 + 1 / 8 + 1), rel=1e-15)


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(-1e6, 1e6)), min_size=1, max_size=20), st.floats(0.5, 100))
def test_smoothing_is_the_weighted_mean(points: list[tuple[int, float]], halflife: float) -> None:
    """Given any curve in order of its steps, when smoothed, then each value is the weighted mean of those up to it."""
    points = sorted(points, key=lambda point: point[0])
    frame = pd.DataFrame({"run_id": "a", "step": [step for step, _ in points], "x": [value for _, value in points]})
    for place, found in enumerate(frame.gradience.smooth("x", halflife).tolist()):
        weights = [0.5 ** ((points[place][0] - step) / halflife) for step, _ in points[: place + 1]]
        mean = math.fsum(w * value for w, (_, value) in zip(weights, points, strict=False)) / math.fsum(weights)
        assert found == pytest.approx(mean, rel=1e-9, abs=1e-6)


def test_what_cannot_be_done_says_so(runs: Runs) -> None:
    """Given frames and columns that do not fit, when asked, then the error says what would."""
    with pytest.raises(AttributeError, match="run_id"):
        _ = pd.DataFrame({"x": [1]}).gradience
    with pytest.raises(UnknownColumnError, match="Did you mean loss"):
        runs.steps.gradience.curve("los")
    with pytest.raises(UnknownColumnError, match=r"Did you mean val\.loss"):
        runs.evals.gradience.best("val.los")
    with pytest.raises(UnknownColumnError):
        runs.steps.gradience.smooth("los")
    with pytest.raises(GradienceError, match="above 0"):
        runs.steps.gradience.smooth("loss", 0)
    with pytest.raises(GradienceError, match="not known"):
        runs.steps.gradience.best("epoch")
    with pytest.raises(GradienceError, match=r"runs\.evals"):
        runs.steps.gradience.gap()
