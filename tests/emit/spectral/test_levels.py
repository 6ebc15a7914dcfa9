"""Risk levels: the same numbers as the diagnostic of a recorded run, and the hysteresis over them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.diagnostics import spectral_risk
from gradience_analysis.model import Event, Run
from gradience_analysis.policy import load_policy
from gradience_emit.spectral import Reading, RiskLevel, RiskWindow, SpectralLimits

POLICY = load_policy()
KAPPA = st.one_of(
    st.none(),
    st.floats(1.0, 1e6),
    st.floats(1.0, 1.01),
    st.sampled_from([math.nan, math.inf, 0.0, -1.0, 1e299, 1e301, 5e-324]),
)


def course(kappas: list[float], every: int = 10, **limits: Any) -> list[Reading]:
    """The reading after each kappa."""
    window = RiskWindow(SpectralLimits(**limits))
    return [window.add(place * every, kappa) for place, kappa in enumerate(kappas)]


def line(slope: float, count: int = 20, every: int = 10) -> list[float]:
    """Kappas on a line whose slope over its mean is the one given."""
    middle = (count - 1) / 2 * every
    return [100 * (1 + slope * (place * every - middle)) for place in range(count)]


def recorded(points: list[tuple[int, float | None]]) -> Run:
    """A run that logged these kappas."""
    events = [
        Event("metrics", 0.0, "run", step, {"kind": "spectral", "metrics": {"kappa": kappa}}, place + 1, 0)
        for place, (step, kappa) in enumerate(points)
    ]
    return Run("run.jsonl", "run", (), tuple(events))


@given(st.lists(st.tuples(st.integers(-1, 40), KAPPA), max_size=45))
def test_slope_volatility_and_level_are_those_of_the_diagnostic(moves: list[tuple[int, float | None]]) -> None:
    """Given any kappas at steps that move on and back, when both take them, then every number is the same."""
    window, points, step = RiskWindow(SpectralLimits(hysteresis=1)), [], 0
    for move, kappa in moves:
        step += move
        points.append((step, kappa))
        window.add(step, kappa)
    rise, volatility = spectral_risk.measure(recorded(points))
    assert window.reading.slope == rise.value
    assert window.reading.volatility == volatility.value
    assert window.reading.level == spectral_risk.risk_level(rise, volatility, POLICY)


def test_the_default_limits_are_those_of_the_policy() -> None:
    """Given the policy file and the diagnostic, when compared with the defaults, then they are equal."""
    limits = SpectralLimits()
    for name in ("learning", "warning", "danger", "volatility"):
        assert getattr(limits, name) == POLICY.limit(f"spectral_risk.{name}")
    assert (limits.window, limits.fewest) == (spectral_risk.WINDOW, spectral_risk.FEWEST)
    assert [level.value for level in RiskLevel] == ["STABLE", "LEARNING", "WARNING", "DANGER", "INSTABILITY"]


@pytest.mark.parametrize(
    ("slope", "level"),
    [
        (-0.004, "STABLE"),
        (0.00049, "STABLE"),
        (0.00051, "LEARNING"),
        (0.00199, "LEARNING"),
        (0.00201, "WARNING"),
        (0.00399, "WARNING"),
        (0.00401, "DANGER"),
    ],
)
def test_a_line_has_its_slope_and_no_volatility(slope: float, level: str) -> None:
    """Given kappa on a line, when read, then the slope is the line's and the level follows it."""
    reading = course(line(slope), hysteresis=1)[-1]
    assert reading.slope == pytest.approx(slope, rel=1e-9)
    assert reading.volatility == pytest.approx(0.0, abs=1e-12)
    assert reading.raw == reading.level == level


def test_a_slope_on_its_limit_has_that_level() -> None:
    """Given limits that are exactly the slope, when read, then the level is the higher one."""
    slope = course(line(0.001))[-1].slope
    assert slope is not None
    for name, level in (("learning", "LEARNING"), ("warning", "WARNING"), ("danger", "DANGER")):
        limits = {"learning": 0.0, "warning": 0.5, "danger": 0.5} | {name: slope}
        limits |= {"warning": slope} if name == "danger" else {}
        assert course(line(0.001), hysteresis=1, **limits)[-1].level == level


def test_volatility_is_the_spread_around_the_slope() -> None:
    """Given kappa that alternates by 5 % every 10 steps, then volatility is 1.4826 x 5 / 10 over the mean."""
    reading = course([100.0, 105.0] * 10)[-1]
    assert reading.slope == pytest.approx(0.0, abs=1e-4)
    assert reading.volatility == pytest.approx(1.4826 * 5 / 10 / 102.5, rel=1e-2)
    assert reading.level is RiskLevel.INSTABILITY


def test_there_is_no_level_with_too_few_readings() -> None:
    """Given 7 readings and one that was not measured, when read, then there is no level; an eighth gives one."""
    window = RiskWindow()
    for step in range(7):
        assert window.add(step, 2.0) == Reading()
    assert window.add(7, None) == Reading()
    assert window.add(8, 2.0) == Reading(0.0, 0.0, RiskLevel.STABLE, RiskLevel.STABLE)


def test_a_reading_that_is_passed_over_changes_nothing() -> None:
    """Given a window with a level, when a kappa is missing, not finite or of an old step, then all stays as it was."""
    window = RiskWindow()
    for step, kappa in enumerate(line(0.003)):
        window.add(10 * step, kappa)
    before = window.reading
    assert before.level is RiskLevel.WARNING
    for step, odd in ((200, None), (201, math.nan), (202, math.inf), (203, 0.0), (190, 50.0), (180, 50.0)):
        assert window.add(step, odd) is before


def test_only_the_last_readings_count() -> None:
    """Given a steep rise followed by a flat window, when read, then nothing is left of the rise."""
    assert course([*line(0.02), *[500.0] * 20])[-1] == Reading(0.0, 0.0, RiskLevel.STABLE, RiskLevel.STABLE)


@given(st.lists(st.floats(1.0, 1.2), min_size=8, max_size=40), st.integers(1, 5))
def test_a_level_is_left_downwards_only_after_as_many_lower_readings(kappas: list[float], hysteresis: int) -> None:
    """Given any course, when followed, then a level rises at once and falls after `hysteresis` lower ones in a row."""
    readings = [reading for reading in course(kappas, hysteresis=hysteresis) if reading.raw and reading.level]
    held, lower = None, []
    for reading in readings:
        if held is None or reading.raw.rank >= held.rank:
            held, lower = reading.raw, []
        else:
            lower.append(reading.raw)
            if len(lower) == hysteresis:
                held = max(lower, key=lambda level: level.rank)
                after = len(lower) - 1 - max(place for place, level in enumerate(lower) if level is held)
                lower = lower[len(lower) - after :]
        assert reading.level is held


def test_hysteresis_of_three_holds_a_level_for_two_lower_readings() -> None:
    """Given a rise that ends, when followed, then WARNING is held twice more than without hysteresis."""
    kappas = [*line(0.003), *[line(0.003)[-1]] * 20]
    at_once = [reading.level for reading in course(kappas, hysteresis=1)]
    held = [reading.level for reading in course(kappas, hysteresis=3)]
    assert held.count(RiskLevel.WARNING) == at_once.count(RiskLevel.WARNING) + 2
    assert held[-1] is at_once[-1] is RiskLevel.STABLE


def test_what_was_measured_on_weights_that_are_gone_is_forgotten() -> None:
    """Given an unstable end, when the weights of an earlier step are back, then its readings and level are gone."""
    window = RiskWindow(SpectralLimits(window=20, fewest=4))
    for step in range(8):
        window.add(10 * step, 10.0)
    for step in range(8, 16):
        window.add(10 * step, 10.0 + 5 * (-1) ** step)
    assert window.reading.level is RiskLevel.INSTABILITY
    window.forget_after(70)
    assert window.reading == Reading()
    assert window.add(80, 10.0).level is RiskLevel.STABLE
    window.forget_after(80)
    assert window.reading.level is RiskLevel.STABLE, "nothing was forgotten, so the level stays"


@pytest.mark.parametrize(
    "options",
    [
        {"learning": -0.1},
        {"volatility": math.nan},
        {"danger": math.inf},
        {"warning": 0.01},
        {"fewest": 1},
        {"window": 7},
        {"window": 301},
        {"hysteresis": 0},
    ],
)
def test_limits_without_sense_are_refused(options: dict[str, Any]) -> None:
    """Given a limit out of range, when the limits are made, then it is a ValueError."""
    with pytest.raises(ValueError, match=r"must|hold"):
        SpectralLimits(**options)
