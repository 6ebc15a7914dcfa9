"""The generalization gap along a run: its course, its onset, and when a large one is no warning."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from gradience_analysis.diagnostics import generalization_gap
from gradience_analysis.model import Run
from gradience_schema import Severity
from tests.analysis.diagnostics.curves import POLICY, evaluations, falling, found, measured, only, run_of

STEPS: tuple[int, ...] = (10, 20, 30, 40)


def run_with(folder: Path, *ratios: float, held_out: tuple[float, ...] | None = None, test: float | None = None) -> Run:
    """A run with these gaps on val at steps 10, 20, ...; val stays at 1.0 unless told otherwise."""
    val = dict(zip(STEPS, held_out or (1.0,) * len(ratios), strict=False))
    train = {step: val[step] - math.log(ratio) for step, ratio in zip(STEPS, ratios, strict=False)}
    more = [*evaluations("train", train), *evaluations("val", val)]
    if test is not None:
        last = max(train)
        ppl = {step: math.exp(loss) for step, loss in train.items()}
        more = [*evaluations("train", train, ppl=ppl), *evaluations("val", val)]
        loss = train[last] + math.log(test)
        more += evaluations("test", {last: loss}, ppl={last: math.exp(loss)})
    return run_of(folder, falling(40), *more)


def test_onset_is_where_the_gap_stays_above(tmp_path: Path) -> None:
    """Given a gap that is above, below, and above for good, when judged, then the last rise is its onset."""
    finding = only(generalization_gap, run_with(tmp_path, 1.6, 1.4, 1.7, 2.0, held_out=(1.0, 1.1, 1.2, 1.3)))
    assert finding.severity is Severity.WARNING
    assert finding.evidence["onset_step"] == 30
    assert "since step 30" in finding.message
    assert [place.step for place in finding.places] == [10, 30, 40]
    assert all(place.line for place in finding.places)
    assert "step 10; the gap there is 1.60, also above" in finding.advice


def test_course_has_every_reading_and_its_slope(tmp_path: Path) -> None:
    """Given gaps that grow by 0.2 every ten steps, when measured, then the slope is 2 in a hundred."""
    course = measured(generalization_gap, run_with(tmp_path, 1.0, 1.2, 1.4, 1.6)).details["course"]
    assert [step for step, _ in course["readings"]] == list(STEPS)
    assert [ratio for _, ratio in course["readings"]] == pytest.approx([1.0, 1.2, 1.4, 1.6])
    assert course["slope_per_100_steps"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("held_out", "last", "expected"),
    [
        ((2.0, 1.5, 1.2, 1.0), 2.0, Severity.INFO),
        ((2.0, 1.5, 1.0, 1.01), 2.0, Severity.INFO),
        ((2.0, 1.5, 1.0, 1.1), 2.0, Severity.WARNING),
        ((2.0, 1.0, 1.0, 1.0), 2.0, Severity.WARNING),
        ((2.0, 1.5, 1.2, 1.0), 5.0, Severity.WARNING),
    ],
    ids=["at its best", "as good as", "behind it", "long at its best", "far too large"],
)
def test_a_gap_while_held_out_improves_is_an_info(
    tmp_path: Path, held_out: tuple[float, ...], last: float, expected: Severity
) -> None:
    """Given a gap above the limit, when the held-out loss is still at its best, then it is an info, up to a size."""
    finding = only(generalization_gap, run_with(tmp_path, 1.1, 1.2, 1.4, last, held_out=held_out))
    assert finding.severity is expected
    assert ("still at its best" in finding.message) is (expected is Severity.INFO)


def test_a_limit_of_ones_own_holds_while_held_out_improves(tmp_path: Path) -> None:
    """Given a threshold that a user set, when the gap is above it, then it is a warning whatever the course."""
    run = run_with(tmp_path, 1.1, 1.2, 1.3, 1.4, held_out=(2.0, 1.5, 1.2, 1.0))
    (finding,) = found(generalization_gap, run, POLICY.with_gap_threshold(1.2))
    assert finding.severity is Severity.WARNING


def test_a_test_split_of_another_kind_is_an_info(tmp_path: Path) -> None:
    """Given a gap on test alone and none on val, when judged, then both are in the message, and it is an info."""
    finding = only(generalization_gap, run_with(tmp_path, 1.1, 1.2, 1.2, 1.3, test=2.5))
    assert finding.severity is Severity.INFO
    assert "2.50" in finding.message
    assert "1.30 on split val" in finding.message


def test_one_evaluation_alone_is_a_warning(tmp_path: Path) -> None:
    """Given one evaluation with a gap, when judged, then there is no course that could excuse it."""
    assert only(generalization_gap, run_with(tmp_path, 1.6)).severity is Severity.WARNING
    assert found(generalization_gap, run_with(tmp_path, 1.5)) == []
