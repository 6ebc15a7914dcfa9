"""Numbers taken from curves, against values worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.model import EvalPoint, Run, canonical_split
from gradience_analysis.telemetry.assemble import load_run
from gradience_analysis.telemetry.signals import (
    Gap,
    gap_course,
    generalization_gap,
    lower_is_better,
    steps_per_second,
    summarize,
)
from tests.analysis.records import evaluation, record, start, train, write


def run_of(folder: Path, records: list[Any]) -> Run:
    """A run with these records after its run_start."""
    return load_run(write(folder / "run.jsonl", [start(), *records]))


def gap_of(folder: Path, records: list[Any]) -> Gap:
    """Its gap, which must be there."""
    gap = generalization_gap(run_of(folder, records))
    assert isinstance(gap, Gap), gap
    return gap


def logged(*pairs: tuple[int, float]) -> list[dict[str, Any]]:
    """Train steps with these losses."""
    return [record("train_step", step, ts=float(step), loss=loss) for step, loss in pairs]


def test_perplexities_are_preferred_and_test_to_val(tmp_path: Path) -> None:
    """Given ppl of train, val and test, when measured, then it is test ppl over train ppl."""
    gap = gap_of(
        tmp_path,
        [
            evaluation(10, "train", ppl=2.0, loss=9.0),
            evaluation(10, "val", ppl=5.0, loss=9.0),
            evaluation(10, "test", ppl=3.0, loss=9.0),
        ],
    )
    assert (gap.kind, gap.held_out_split, gap.train_source) == ("ppl_ratio", "test", "evaluated")
    assert gap.last.ratio == 1.5
    assert gap.language_model is True


def test_losses_serve_where_perplexity_is_absent(tmp_path: Path) -> None:
    """Given losses only, when measured, then it is exp(val loss - train loss) with train evaluated, not logged."""
    rows = [
        *logged((5, 0.1), (10, 0.1)),
        evaluation(10, "train", loss=0.5),
        evaluation(10, "eval", loss=0.9, accuracy=0.7),
    ]
    gap = gap_of(tmp_path, rows)
    assert (gap.kind, gap.held_out_split, gap.train_source) == ("exp_loss_difference", "val", "evaluated")
    assert gap.last.ratio == pytest.approx(math.exp(0.4), rel=1e-15)
    assert gap.language_model is False


def test_logged_loss_is_the_mean_of_the_last_window(tmp_path: Path) -> None:
    """Given no train evaluation, when measured, then the last five losses up to that step stand in, and are named."""
    losses = [(step, float(step)) for step in range(1, 13)]
    gap = gap_of(tmp_path, [*logged(*losses[:10]), evaluation(10, "val", loss=9.0), *logged(*losses[10:])])
    assert gap.train_source == "logged"
    assert gap.last.train == (6 + 7 + 8 + 9 + 10) / 5
    assert gap.last.train_step == (6, 10)
    assert gap.last.ratio == pytest.approx(math.e, rel=1e-15)
    assert gap.language_model is None


def test_best_and_last_are_both_there(tmp_path: Path) -> None:
    """Given an evaluation that gets worse again, when measured, then best and last differ, each with its own train."""
    rows: list[Any] = []
    for step, train_ppl, val_ppl in ((10, 4.0, 4.4), (20, 2.0, 3.0), (30, 1.0, 4.0)):
        rows += [evaluation(step, "train", ppl=train_ppl), evaluation(step, "validation", ppl=val_ppl)]
    gap = gap_of(tmp_path, rows)
    assert (gap.best.step, gap.best.ratio) == (20, 1.5)
    assert (gap.last.step, gap.last.ratio) == (30, 4.0)


def test_train_evaluation_before_the_held_out_one_is_used(tmp_path: Path) -> None:
    """Given a test evaluation after the last train evaluation, when measured, then that one is set against it."""
    rows = [evaluation(10, "train", ppl=4.0), evaluation(20, "train", ppl=2.0), evaluation(30, "test", ppl=5.0)]
    gap = gap_of(tmp_path, rows)
    assert (gap.last.ratio, gap.last.train_step) == (2.5, (20, 20))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (logged((1, 1.0)), "no held-out evaluation"),
        ([evaluation(1, "train", loss=1.0)], "no held-out evaluation"),
        ([evaluation(1, "val", accuracy=0.5)], "carry no loss"),
        ([evaluation(1, "val", loss=None)], "carry no loss"),
        (
            [record("eval", 1, split="val", metrics={"loss": None}, nonfinite={"/metrics/loss": "nan"})],
            "no finite loss",
        ),
        ([evaluation(1, "val", loss=1.0)], "no finite training loss"),
        ([evaluation(1, "val", loss=True)], "carry no loss"),
    ],
)
def test_what_cannot_be_measured_says_what_to_log(tmp_path: Path, rows: list[Any], words: str) -> None:
    """Given too little, when measured, then there is a sentence in place of a number."""
    gap = generalization_gap(run_of(tmp_path, rows))
    assert isinstance(gap, str)
    assert words in gap


def test_perplexities_that_are_none_are_left_out(tmp_path: Path) -> None:
    """Given a perplexity of 0, when measured, then there is no division by it, and the losses serve."""
    rows = [evaluation(1, "train", ppl=0.0, loss=1.0), evaluation(1, "val", ppl=2.0, loss=1.0)]
    gap = gap_of(tmp_path, rows)
    assert (gap.kind, gap.last.ratio) == ("exp_loss_difference", 1.0)


def test_a_difference_beyond_a_double_is_infinite(tmp_path: Path) -> None:
    """Given a loss difference of 5000, when measured, then the ratio is infinite and nothing is raised."""
    gap = gap_of(tmp_path, [evaluation(1, "train", loss=0.0), evaluation(1, "val", loss=5000.0)])
    assert gap.last.ratio == math.inf


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats()), min_size=1, max_size=30))
def test_summary_equals_a_naive_one(pairs: list[tuple[int, float]]) -> None:
    """Given any values, when summarised, then first, best, largest and last are those a plain search finds."""
    curve = summarize(pairs, "loss")
    assert curve is not None
    finite = [value for _, value in pairs if math.isfinite(value)]
    assert curve.first is pairs[0]
    assert curve.last is pairs[-1]
    assert (curve.best[1] if curve.best else None) == min(finite, default=None)
    assert (curve.peak[1] if curve.peak else None) == max(finite, default=None)
    assert curve.count == len(curve.points) == len(pairs)


def test_directions_of_metrics() -> None:
    """Given names, when asked for a direction, then the known ones have theirs and an unknown one has none."""
    assert [
        lower_is_better(name) for name in ("loss", "ppl", "aux_loss", "accuracy", "answer_accuracy", "n", "margin")
    ] == [
        *(True, True, True),
        *(False, False),
        *(None, None),
    ]
    assert summarize([(1, 3.0), (2, 5.0)], "accuracy").best == (2, 5.0)  # type: ignore[union-attr]
    assert summarize([(1, 3.0), (2, 5.0)], "margin").best is None  # type: ignore[union-attr]
    assert summarize([], "loss") is None


def test_pace_leaves_out_the_pause_between_segments(tmp_path: Path) -> None:
    """Given two segments a day apart, when the pace is taken, then only the time within them counts."""
    write(tmp_path / "run.jsonl", [start(), *train(range(1, 11))])
    write(tmp_path / "run.1.jsonl", [start(ts=9e4, resume_step=10), *train(range(11, 21), ts=9e4)])
    assert steps_per_second(load_run(tmp_path)) == pytest.approx(1.0)


def test_pace_of_one_step_is_not_measured(tmp_path: Path) -> None:
    """Given one logged step, or two at the same time, when the pace is taken, then there is none."""
    assert steps_per_second(run_of(tmp_path, train([1]))) is None
    assert steps_per_second(run_of(tmp_path, [*logged((1, 1.0)), *logged((1, 1.0))])) is None


def test_names_of_the_validation_split() -> None:
    """Given the usual names, when made canonical, then they are val, and others stay."""
    assert [canonical_split(name) for name in ("eval", "validation", "dev", "Eval", "val", "train", "test_b")] == [
        *["val"] * 5,
        "train",
        "test_b",
    ]


def test_readings_are_all_of_them(tmp_path: Path) -> None:
    """Given several evaluations, one without its number, when measured, then each other one has its reading."""
    rows: list[Any] = []
    for step, train_ppl, val_ppl in ((10, 4.0, 4.4), (20, 2.0, 0.0), (30, 1.0, 4.0)):
        rows += [evaluation(step, "train", ppl=train_ppl), evaluation(step, "val", ppl=val_ppl)]
    gap = gap_of(tmp_path, rows)
    assert [(reading.step, reading.ratio) for reading in gap.readings] == [(10, pytest.approx(1.1)), (30, 4.0)]
    assert gap.readings[-1] is gap.last
    assert gap.best in gap.readings


def test_course_is_taken_on_the_split_that_was_evaluated_along_the_way(tmp_path: Path) -> None:
    """Given perplexities of test at the end and of val along the way, when followed, then it is val, from losses."""
    rows: list[Any] = []
    for step in (10, 20, 30):
        rows += [evaluation(step, "train", ppl=math.exp(1.0)), evaluation(step, "val", ppl=math.exp(1.0 + step / 100))]
    rows.append(evaluation(30, "test", ppl=math.exp(3.0)))
    run = run_of(tmp_path, rows)
    course = gap_course(run)
    assert isinstance(course, Gap)
    assert (course.held_out_split, course.kind, course.train_source) == ("val", "exp_loss_difference", "evaluated")
    assert [reading.held_out - reading.train for reading in course.readings] == pytest.approx([0.1, 0.2, 0.3])
    assert course.last.ratio == pytest.approx(math.exp(0.3))
    assert isinstance(gap := generalization_gap(run), Gap)
    assert gap.held_out_split == "test"


def test_course_takes_the_logged_loss_where_train_was_evaluated_once(tmp_path: Path) -> None:
    """Given one evaluation of train at the end, when followed, then each reading has the loss of its own time."""
    rows = [
        *logged((5, 3.0), (10, 1.0)),
        evaluation(5, "val", loss=4.0),
        evaluation(10, "val", loss=5.0),
        evaluation(10, "train", loss=0.5),
    ]
    course = gap_course(run_of(tmp_path, rows))
    assert isinstance(course, Gap)
    assert [(reading.step, reading.train) for reading in course.readings] == [(5, 3.0), (10, 2.0)]


@pytest.mark.parametrize("rows", [[], [evaluation(1, "val", accuracy=1.0)], [evaluation(1, "val", loss=1.0)]])
def test_course_that_cannot_be_taken_says_why(tmp_path: Path, rows: list[Any]) -> None:
    """Given too little, when followed, then there is a sentence that ends with what to log."""
    course = gap_course(run_of(tmp_path, rows))
    assert isinstance(course, str)
    assert course.endswith(".")


@given(st.lists(st.integers(0, 20), max_size=20).map(sorted), st.one_of(st.none(), st.integers(0, 25)))
def test_each_evaluation_has_the_train_number_of_its_time(train_steps: list[int], at: int | None) -> None:
    """Given train evaluations in order, when paired, then each held-out one has the last before it, else the first."""
    points = tuple(EvalPoint(step, 0.0, "train", {"loss": float(place)}) for place, step in enumerate(train_steps))
    run = Run("", "r", (), ())
    run.__dict__["evaluations"] = {"train": points, "val": (EvalPoint(at, 0.0, "val", {"loss": 1.0}),)}
    gap = generalization_gap(run)
    before = [place for place, step in enumerate(train_steps) if step <= (math.inf if at is None else at)]
    assert isinstance(gap, Gap) == bool(train_steps)
    assert isinstance(gap, str) or gap.last.train == (before[-1] if before else 0.0)
