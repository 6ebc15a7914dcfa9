"""The scales of a chart: round values, inside the picture, for any data."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.render.page.axis import Axis, along, brief, tight, upward, upward_log

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SCALES = pytest.mark.parametrize("scale", [along, upward, upward_log, tight], ids=lambda scale: scale.__name__)


def words(axis: Axis) -> list[str]:
    """What is written beside it."""
    return [word for _, word in axis.ticks]


@SCALES
@given(first=FINITE, second=FINITE, between=FINITE)
def test_any_data_fit(scale: type, first: float, second: float, between: float) -> None:
    """Given any two ends, when scaled, then every value has a place in 0..1, in order, and ticks are few and inside."""
    low, high = sorted((abs(first), abs(second))) if scale is upward_log else sorted((first, second))
    axis = scale(low, high)
    assert 0 <= axis.place(low) <= axis.place(high) <= 1
    assert 0 <= axis.place(between) <= 1
    assert len(axis.ticks) <= 12
    assert all(-1e-9 <= (value - axis.low) / (axis.high - axis.low) <= 1 + 1e-9 for value, _ in axis.ticks)
    assert all(0 < len(word) <= 12 for word in words(axis))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1, 10_000, ["2,000", "4,000", "6,000", "8,000", "10,000"]),
        (5, 40, ["10", "20", "30", "40"]),
        (1, 3, ["1", "2", "3"]),
        (0, 250_000, ["0", "50k", "100k", "150k", "200k", "250k"]),
        (0, 1_200_000, ["0", "0.5M", "1.0M"]),
        (7, 7, ["7"]),
    ],
)
def test_steps_are_written_as_people_write_them(low: float, high: float, expected: list[str]) -> None:
    """Given the steps of a run, when scaled, then whole round steps stand at the axis."""
    assert words(along(low, high)) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.4, 2.1, ["0", "1", "2", "3"]),
        (1.7, 2.1, ["1.7", "1.8", "1.9", "2.0", "2.1"]),
        (0.0, 2e-4, ["0", "5e-5", "1.0e-4", "1.5e-4", "2.0e-4"]),
        (-1.0, 1.0, ["-1.0", "-0.5", "0", "0.5", "1.0"]),
        (41_000, 81_000, ["40,000", "50,000", "60,000", "70,000", "80,000", "90,000"]),
        (0.0002, 0.0002, ["0.0002"]),
        (0.0, 0.0, ["0"]),
    ],
)
def test_values_are_written_with_the_digits_they_need(low: float, high: float, expected: list[str]) -> None:
    """Given values, when scaled, then round values around them stand at the axis, 0 where it is near."""
    assert words(upward(low, high)) == expected


def test_a_constant_is_in_the_middle() -> None:
    """Given one value, when scaled on any axis, then it has the middle of the picture."""
    for axis in (along(7, 7), upward(3.0, 3.0), upward(0.0, 0.0), upward_log(5.0, 5.0), tight(-2.0, -2.0)):
        value = axis.ticks[0][0] if axis.ticks else -2.0
        assert math.isclose(axis.place(value), 0.5, abs_tol=1e-9)


def test_what_hardly_changes_does_not_look_as_if_it_did() -> None:
    """Given memory between 473.8 and 474.1, when scaled, then it takes a small part of the height."""
    axis = upward(473.8, 474.1)
    assert axis.place(474.1) - axis.place(473.8) < 0.05


def test_a_logarithmic_axis_has_powers_of_ten() -> None:
    """Given values over many decades and over few, when scaled, then powers stand there, or their parts as well."""
    assert words(upward_log(0.02, 3_000)) == ["0.1", "1", "10", "100", "1,000"]
    assert words(upward_log(1.2, 45)) == ["2", "5", "10", "20", "50"]
    assert words(upward_log(1e-12, 1e12)) == ["1e-12", "1e-8", "0.0001", "1", "10,000", "100M", "1e12"]
    axis = upward_log(0.1, 1000)
    assert math.isclose(axis.place(10) - axis.place(1), axis.place(1000) - axis.place(100))


@given(st.floats())
def test_brief_is_brief(value: float) -> None:
    """Given any number, when written briefly, then it takes at most nine characters and is close to it."""
    word = brief(value)
    assert len(word) <= 9
    if math.isfinite(value) and abs(value) < 1e5:
        assert math.isclose(float(word.replace(",", "")), value, rel_tol=0.06)
