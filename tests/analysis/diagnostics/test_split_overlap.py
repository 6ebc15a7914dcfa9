"""Overlap of splits: what the losses of two splits tell about their rows, and what they do not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from gradience_analysis.diagnostics import split_overlap
from gradience_analysis.model import Run
from gradience_schema import Severity
from tests.analysis.diagnostics.curves import POLICY, evaluations, falling, found, measured, only, run_of

TRAIN = {10: 2.0, 20: 1.2, 30: 0.6, 40: 0.3}


def run_with(folder: Path, excess: float, *, test: float | None = None, rows: int = 0, train: bool = True) -> Run:
    """A run of 64 training rows whose held-out perplexity is this much above that of train, with test at its end."""
    held_out = {step: loss + math.log1p(excess) for step, loss in TRAIN.items()}
    counts = {"n": dict.fromkeys(TRAIN, float(rows))} if rows else {}
    more = [*evaluations("eval", held_out, **counts), *evaluations("test", {} if test is None else {40: test})]
    more += evaluations("train", TRAIN) if train else []
    losses = [TRAIN[10 * (step // 10 + 1)] for step in range(40)]
    run = run_of(folder, losses, *more)
    assert run.config is not None
    return replace(run, config=replace(run.config, training=replace(run.config.training, num_train_examples=64)))


@pytest.mark.parametrize("excess", [0.0, 3e-7])
def test_the_same_number_again_and_again_is_a_warning(tmp_path: Path, excess: float) -> None:
    """Given losses that agree in six digits at four evaluations, when judged, then the splits are said to be one."""
    finding = only(split_overlap, run_with(tmp_path, excess))
    assert finding.severity is Severity.WARNING
    assert "4 of 4 evaluations" in finding.message
    assert [place.step for place in finding.places] == [10, 40]


def test_a_split_that_follows_where_a_further_one_does_not_is_an_info(tmp_path: Path) -> None:
    """Given a held-out loss just above training and a test loss far above, when judged, then it is worth a look."""
    finding = only(split_overlap, run_with(tmp_path, 0.005, test=1.5))
    assert finding.severity is Severity.INFO
    assert "another kind of data" in finding.caveat
    assert finding.confidence < 0.5


@pytest.mark.parametrize(
    ("excess", "test"), [(0.005, None), (0.005, 0.4), (0.1, 1.5)], ids=["no test", "test is near", "held out is far"]
)
def test_what_can_be_otherwise_is_not_said(tmp_path: Path, excess: float, test: float | None) -> None:
    """Given splits that are near each other for all that is known, when judged, then nothing is said."""
    assert found(split_overlap, run_with(tmp_path, excess, test=test)) == []


@pytest.mark.parametrize("train", [True, False], ids=["evaluated", "logged"])
@pytest.mark.parametrize(("rows", "excess", "expected"), [(64, 0.1, True), (63, 0.1, False), (64, 0.3, False)])
def test_as_many_rows_that_follow_are_an_info(
    tmp_path: Path, rows: int, excess: float, train: bool, expected: bool
) -> None:
    """Given a split of the size of the training data, when it follows their loss, then it is an info, else nothing."""
    findings = found(split_overlap, run_with(tmp_path, excess, rows=rows, train=train))
    assert [one.severity for one in findings] == [Severity.INFO] * expected
    assert not expected or "64" in findings[0].message


def test_two_losses_of_nothing_are_no_overlap(tmp_path: Path) -> None:
    """Given losses of 0.0 on both splits, as where no label counts, when judged, then nothing is said."""
    zeros = dict.fromkeys(TRAIN, 0.0)
    run = run_of(tmp_path, [0.0] * 40, *evaluations("train", zeros), *evaluations("val", zeros))
    assert found(split_overlap, run) == []


@pytest.mark.parametrize("pairs", [{}, {40: 1.0}], ids=["none", "one"])
def test_what_cannot_be_measured_says_why(tmp_path: Path, pairs: dict[int, float]) -> None:
    """Given no evaluations or one, when measured, then the reason says what to evaluate."""
    item = measured(split_overlap, run_of(tmp_path, falling(40), *evaluations("val", pairs)))
    assert item.value is None
    assert "valuat" in item.reason
    assert split_overlap.judge([item], POLICY) == []


def test_a_test_loss_beyond_a_double_is_still_a_number(tmp_path: Path) -> None:
    """Given a test loss of 5000, when measured, then its ratio is finite, far above all limits."""
    assert 1e40 < measured(split_overlap, run_with(tmp_path, 0.1, test=5000.0)).details["further_ratio"] < math.inf
