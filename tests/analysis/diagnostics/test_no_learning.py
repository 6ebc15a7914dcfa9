"""No learning: a loss that does not come down, against the many shapes in which it does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.diagnostics import no_learning
from gradience_schema import Severity
from tests.analysis.diagnostics.curves import POLICY, evaluations, falling, found, measured, only, run_of
from tests.analysis.diagnostics.test_divergence import curve_only


def flat(count: int = 60, *, fall: float = 0.0, noise: float = 0.03, seed: int = 1) -> list[float]:
    """A loss of about 3 that falls evenly by this share, and no more."""
    base = falling(count, first=3.0, last=3.0, noise=noise, seed=seed)
    return [loss * (1 - fall * place / (count - 1)) for place, loss in enumerate(base)]


@pytest.mark.parametrize("fall", [0.0, 0.02, 0.04])
@pytest.mark.parametrize("noise", [0.01, 0.05, 0.15])
def test_a_loss_that_hardly_moves_is_a_warning(tmp_path: Path, fall: float, noise: float) -> None:
    """Given losses that fall by a few hundredths or not at all, when judged, then each is found."""
    runs = [run_of(tmp_path, flat(fall=fall, noise=noise, seed=seed)) for seed in range(20)]
    assert sum(len(found(no_learning, run)) for run in runs) >= 19


def test_the_finding_names_levels_and_a_rate_to_try(tmp_path: Path) -> None:
    """Given a flat loss with its learning rate, when judged, then a range above the rate is suggested."""
    finding = only(no_learning, run_of(tmp_path, flat(), fields={"lr": [1e-7] * 60}))
    assert (finding.rule, finding.severity) == ("T05", Severity.WARNING)
    (change,) = finding.changes
    assert (change.current, change.suggested) == ("1e-07", "3e-07 to 1e-06")
    assert finding.evidence["start"] == pytest.approx(3.0, rel=0.05)
    assert "base model" in finding.caveat
    assert all(place.line for place in finding.places)


def test_evaluations_that_are_all_the_same_say_that_no_weight_changed(tmp_path: Path) -> None:
    """Given a flat loss and one held-out loss again and again, when judged, then that is said, and with confidence."""
    more = evaluations("eval", {20: 2.987654, 40: 2.987654, 60: 2.987654})
    finding = only(no_learning, run_of(tmp_path, flat(), *more))
    assert "no weight changed" in finding.message
    assert finding.confidence == 0.95
    assert finding.caveat == ""
    assert finding.changes == ()


SHAPES: dict[str, Callable[[int], list[float]]] = {
    "exponential": falling,
    "noisy": lambda count: falling(count, noise=0.3),
    "nearly all in the first steps": lambda count: [4.0, 3.9, 3.8, *falling(count - 3, first=1.4, last=1.37)],
    "plateau and a drop in the last fifth": lambda count: [
        3.0 + 0.02 * (place % 3) if place < 0.8 * count else 1.0 + 0.02 * (place % 3) for place in range(count)
    ],
    "linear": lambda count: [3.0 - 1.0 * place / count for place in range(count)],
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [40, 400])
def test_what_learns_in_its_own_way_is_healthy(tmp_path: Path, shape: str, count: int) -> None:
    """Given curves that fall early, late, evenly or under noise, when judged, then nothing is said."""
    assert found(no_learning, run_of(tmp_path, SHAPES[shape](count))) == []


def test_a_held_out_loss_that_falls_is_learning(tmp_path: Path) -> None:
    """Given a training loss lost in noise and a held-out loss that falls by a tenth, when judged, then it learns."""
    losses = flat(noise=0.3)
    more = evaluations("val", {20: 3.0, 40: 2.8, 60: 2.7})
    assert found(no_learning, run_of(tmp_path, losses))
    assert found(no_learning, run_of(tmp_path, losses, *more)) == []


def test_a_loss_that_was_low_from_the_start_has_no_need_to_fall(tmp_path: Path) -> None:
    """Given a fine-tune that starts at 0.05 and stays, when judged, then nothing is said."""
    assert found(no_learning, run_of(tmp_path, [0.05 + 0.001 * (place % 3) for place in range(60)])) == []


@pytest.mark.parametrize(("steps", "expected"), [(10, False), (11, False), (30, True)])
def test_a_run_that_goes_on_gets_its_time(tmp_path: Path, steps: int, expected: bool) -> None:
    """Given a run of forty declared steps that goes on, when judged early, then nothing is said, and later it is."""
    run = run_of(tmp_path, [3.0] * steps, ended=False)
    assert bool(found(no_learning, run)) is expected


def test_too_few_losses_say_nothing(tmp_path: Path) -> None:
    """Given one loss fewer than the policy asks for, when judged, then nothing is said."""
    least = int(POLICY.limit("no_learning.losses"))
    assert found(no_learning, run_of(tmp_path, [3.0] * (least - 1))) == []
    assert found(no_learning, run_of(tmp_path, [3.0] * least))


@pytest.mark.parametrize(
    ("losses", "words"),
    [([], "no finite"), ([1.0] * 5, "there are 5"), ([0.0] * 20, "every logged loss is 0.0")],
)
def test_what_cannot_be_measured_says_why(tmp_path: Path, losses: list[float], words: str) -> None:
    """Given too little, when measured, then there is a reason that says what to log."""
    item = measured(no_learning, run_of(tmp_path, losses))
    assert item.value is None
    assert words in item.reason
    assert no_learning.judge([item], POLICY) == []


@given(st.lists(st.floats(0.5, 10.0), min_size=6, max_size=60), st.sampled_from([0.25, 8.0]))
def test_the_ratio_does_not_depend_on_the_unit(losses: list[float], factor: float) -> None:
    """Given any curve, when its loss is measured in another unit, then the ratio is the same."""
    plain, scaled = (measured(no_learning, curve_only(one)) for one in (losses, [factor * loss for loss in losses]))
    assert scaled.value == pytest.approx(plain.value)
