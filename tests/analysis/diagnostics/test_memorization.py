"""Memorization: a held-out loss that rises while the training loss falls."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.diagnostics import generalization_gap, memorization
from gradience_analysis.diagnostics.memorization import longest_row
from gradience_analysis.model import Run
from gradience_schema import Severity
from tests.analysis.diagnostics.curves import POLICY, diagnosed, evaluations, falling, found, measured, only, run_of

STEPS: tuple[int, ...] = (10, 20, 30, 40, 50, 60)
DOWN = (2.0, 1.6, 1.2, 0.8, 0.5, 0.3)


def run_with(folder: Path, held_out: tuple[float, ...], train: tuple[float, ...] | None = DOWN) -> Run:
    """A run of sixty steps that evaluates every ten, split train too where there are numbers for it."""
    more = evaluations("eval", dict(zip(STEPS, held_out, strict=False)))
    more += [] if train is None else evaluations("train", dict(zip(STEPS, train, strict=False)))
    return run_of(folder, falling(60), *more)


@pytest.mark.parametrize("train", [DOWN, None], ids=["evaluated", "logged"])
def test_three_rises_in_a_row_are_a_warning(tmp_path: Path, train: tuple[float, ...] | None) -> None:
    """Given a held-out loss that rises three times while training goes on, when judged, then the best step is named."""
    finding = only(memorization, run_with(tmp_path, (2.1, 1.8, 1.7, 1.75, 1.8, 1.85), train))
    assert (finding.rule, finding.severity) == ("T06", Severity.WARNING)
    assert "step 30" in finding.advice
    assert [place.step for place in finding.places] == [30, 60]
    assert all(place.line for place in finding.places)
    assert finding.evidence["rises_in_a_row"] == 3
    assert ("evaluated" in finding.basis) is (train is not None)
    assert finding.confidence == (0.9 if train is not None else 0.75)


@pytest.mark.parametrize(
    "held_out",
    [
        (2.1, 1.8, 1.7, 1.6, 1.5, 1.4),
        (2.1, 1.8, 1.7, 1.71, 1.72, 1.73),
        (2.1, 1.8, 1.9, 2.0, 2.1, 1.7),
        (2.1, 1.8, 1.7, 1.6, 1.5, 2.5),
        (2.1, 1.5, 1.7, 1.5, 1.7, 1.51),
    ],
    ids=["falls", "rises by next to nothing", "comes back", "one evaluation alone", "goes up and down"],
)
def test_what_is_no_memorization(tmp_path: Path, held_out: tuple[float, ...]) -> None:
    """Given held-out losses that do not rise for good, when judged, then nothing is said."""
    assert found(memorization, run_with(tmp_path, held_out)) == []


def test_a_large_rise_needs_no_row(tmp_path: Path) -> None:
    """Given a held-out loss that ends far above its best, with a dip on the way, when judged, then it is found."""
    finding = only(memorization, run_with(tmp_path, (2.1, 1.7, 2.2, 2.5, 2.4, 2.8)))
    assert finding.evidence["rises_in_a_row"] == 2
    assert finding.evidence["held_out_rise"] == pytest.approx(2.8 / 1.7 - 1)


def test_training_that_gets_worse_too_is_something_else(tmp_path: Path) -> None:
    """Given both losses rising, when judged, then it is no memorization."""
    run = run_with(tmp_path, (2.1, 1.8, 1.9, 2.1, 2.3, 2.5), (2.0, 1.6, 1.7, 1.9, 2.0, 2.2))
    assert found(memorization, run) == []


def test_two_evaluations_show_no_rise(tmp_path: Path) -> None:
    """Given two evaluations, when measured, then the reason says how many it takes."""
    item = measured(memorization, run_with(tmp_path, (1.0, 5.0), (1.0, 0.1)))
    assert item.value is None
    assert "2 evaluations of split val" in item.reason
    assert memorization.judge([item], POLICY) == []


def test_a_classifier_that_gets_better_all_the_same_is_told_so(tmp_path: Path) -> None:
    """Given a held-out loss that rises while its accuracy does too, when judged, then the caveat has both numbers."""
    losses = dict(zip(STEPS, (0.6, 0.5, 0.55, 0.62, 0.7, 0.8), strict=True))
    accuracy = dict(zip(STEPS, (0.7, 0.75, 0.78, 0.8, 0.81, 0.82), strict=True))
    run = run_of(tmp_path, falling(60), *evaluations("val", losses, accuracy=accuracy))
    assert "from 0.75 to 0.82" in only(memorization, run).caveat


def test_the_gap_is_not_said_beside_it(tmp_path: Path) -> None:
    """Given memorization with a large gap, when diagnosed, then it is said once."""
    run = run_with(tmp_path, (2.1, 1.8, 1.9, 2.1, 2.3, 2.5))
    assert [one.code for one in generalization_gap.judge(generalization_gap.measure(run), POLICY)] == [
        "generalization_gap"
    ]
    assert [one.code for one in diagnosed(run, memorization, generalization_gap).findings] == ["memorization"]


@given(st.lists(st.integers(0, 5), max_size=30))
def test_longest_row_is_the_one_a_search_finds(values: list[int]) -> None:
    """Given any values, when the longest row of rises is counted, then no stretch of rises is longer."""
    rows = [
        stop - start
        for start in range(len(values))
        for stop in range(start, len(values))
        if all(values[place] < values[place + 1] for place in range(start, stop))
    ]
    assert longest_row([float(value) for value in values]) == max(rows, default=0)
