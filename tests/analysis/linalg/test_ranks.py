"""Measures of rank: how they order, what leaves them alone, and values that follow from their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.linalg import (
    ALLOWED_RANKS,
    effective_rank,
    energy_rank,
    energy_tail,
    largest_gap_rank,
    null_rank,
    numerical_rank,
    percentile,
    product_spectrum,
    round_up_rank,
    stable_rank,
)
from tests.analysis.linalg.pairs import FloatArray, pair, spectra_of_any_kind

SHARES = st.floats(0.01, 1.0)
ZEROS = np.zeros(4)
SPOILT = np.array([math.nan, math.nan])


@given(spectra_of_any_kind(), st.integers(0, 9), st.booleans())
def test_the_measures_stand_in_order(sigma: FloatArray, seed: int, from_factors: bool) -> None:
    """Given any spectrum, when all measures are taken, then 1 <= stable <= participation <= effective <= rank <= r."""
    if from_factors:
        sigma = product_spectrum(*pair(sigma, 30, 25, seed=seed))
    participation = sigma.sum() ** 2 / np.square(sigma).sum()
    chain = [1.0, stable_rank(sigma), participation, effective_rank(sigma)]
    assert all(low <= high * (1 + 1e-12) for low, high in itertools.pairwise(chain))
    # Values that count as zero still weigh in the entropy, 1e-12 of the largest each at most.
    assert effective_rank(sigma) <= numerical_rank(sigma) * (1 + 1e-9)
    assert 1 <= numerical_rank(sigma) <= sigma.size


@given(spectra_of_any_kind(), st.sampled_from([1e-160, 1e-30, 7.0, 1e30, 1e200]), SHARES)
def test_scale_changes_no_rank(sigma: FloatArray, factor: float, q: float) -> None:
    """Given values times a number, however large, when ranks are taken, then they stay, and the tail is times it."""
    scaled = sigma * factor
    assert stable_rank(scaled) == pytest.approx(stable_rank(sigma), rel=1e-12)
    assert effective_rank(scaled) == pytest.approx(effective_rank(sigma), rel=1e-12)
    assert numerical_rank(scaled) == numerical_rank(sigma)
    assert largest_gap_rank(scaled) == largest_gap_rank(sigma)
    assert energy_tail(scaled) == pytest.approx(energy_tail(sigma) * factor, rel=1e-12)
    assert energy_rank(scaled, q) == energy_rank(sigma, q)


@given(spectra_of_any_kind(), SHARES, SHARES)
def test_energy_rank_rises_with_q_and_fits_the_tail(sigma: FloatArray, one: float, other: float) -> None:
    """Given two shares, when energy ranks are taken, then the larger share needs no fewer, and the tail agrees."""
    low, high = sorted((one, other))
    k = energy_rank(sigma, high)
    assert 1 <= energy_rank(sigma, low) <= k <= sigma.size
    total = float(np.square(sigma).sum())
    tail = np.square(energy_tail(sigma))
    assert tail[k] <= (1 - high + 3e-12) * total
    assert tail[k - 1] >= (1 - high - 3e-12) * total


@given(spectra_of_any_kind())
def test_tail_is_what_is_left(sigma: FloatArray) -> None:
    """Given any values, when the tail is taken, then tail[k] is the norm of those after k, and falls to 0."""
    tail = energy_tail(sigma)
    assert tail.size == sigma.size + 1
    assert tail[0] == pytest.approx(np.linalg.norm(sigma), rel=1e-14)
    assert tail[-1] == 0.0
    assert (np.diff(tail) <= 0).all()
    for k in range(sigma.size):
        assert tail[k] == pytest.approx(math.sqrt(math.fsum(value * value for value in sigma[k:])), rel=1e-12)


def test_values_by_hand() -> None:
    """Given spectra one can work out by hand, when measures are taken, then they are those."""
    assert stable_rank(np.array([2.0, 1.0, 1.0])) == 1.5
    assert effective_rank(np.array([1.0, 1.0, 1.0, 0.0])) == pytest.approx(3.0)
    assert effective_rank(np.array([3.0, 1.0])) == pytest.approx(4 / 3**0.75)
    assert energy_rank(np.ones(10), 0.9) == 9
    assert energy_rank(np.full(10, 0.1), 0.9) == 9
    assert energy_rank(np.array([3.0, 1.0]), 0.9) == 1
    assert energy_rank(np.array([3.0, 1.0]), 0.91) == 2
    assert energy_rank(np.array([5.0, 1.0, 0.0]), 1.0) == 2
    assert numerical_rank(np.array([1.0, 1e-10, 1e-13])) == 2
    assert numerical_rank(np.array([1.0, 1e-10, 1e-13]), 1e-6) == 1


@pytest.mark.parametrize(
    ("sigma", "wanted"),
    [
        ([10, 9, 8, 1, 0.9], 3),
        ([10, 9, 8, 1, 0], 4),
        ([10, 1, 0, 0], 2),
        ([1, 1, 1, 1], 4),
        ([8, 4, 2, 1], 3),
        ([5], 1),
        ([5, 0], 1),
        ([0, 0], 0),
    ],
    ids=str,
)
def test_largest_gap(sigma: list[float], wanted: int) -> None:
    """Given values with a gap, a flat run, a tie or zeros, when the largest gap is sought, then it is the one said."""
    assert largest_gap_rank(np.array(sigma, dtype=np.float64)) == wanted


def test_planted_rank_in_noise_as_published() -> None:
    """Given rank 5 planted in r = 64 with slight noise, when ranks are taken, then gap and 99% energy find 5."""
    rng = np.random.default_rng(0)
    sigma = np.sort(np.r_[rng.uniform(8, 10, 5), rng.uniform(0.05, 0.1, 59)])[::-1]
    assert largest_gap_rank(sigma) == 5
    assert energy_rank(sigma, 0.99) == 5
    assert energy_rank(sigma, 0.90) == 5
    assert 4 < stable_rank(sigma) < 5 < effective_rank(sigma)


@pytest.mark.parametrize(("first", "second"), [(83, 7), (82, 8), (76, 14), (61, 29)])
def test_a_share_that_is_met_exactly_is_met(first: int, second: int) -> None:
    """Given two values with exactly 90% of the energy, when the energy rank is taken, then rounding adds no third."""
    assert energy_rank(np.sqrt(np.array([first, second, 5.0, 5.0]) / 7), 0.9) == 2


def test_nothing_has_no_rank() -> None:
    """Given a zero update or NaN, when measures are taken, then ranks are 0, ratios NaN, and NaN is refused."""
    assert math.isnan(stable_rank(ZEROS))
    assert math.isnan(effective_rank(ZEROS))
    assert energy_rank(ZEROS, 0.9) == numerical_rank(ZEROS) == largest_gap_rank(ZEROS) == 0
    assert energy_tail(ZEROS).tolist() == [0.0] * 5
    assert math.isnan(stable_rank(SPOILT))
    assert math.isnan(effective_rank(SPOILT))
    assert np.isnan(energy_tail(SPOILT)).all()
    for ask in (lambda: energy_rank(SPOILT, 0.9), lambda: numerical_rank(SPOILT), lambda: largest_gap_rank(SPOILT)):
        with pytest.raises(ValueError, match="NaN has no rank"):
            ask()


@pytest.mark.parametrize("q", [0.0, -0.1, 1.1, math.nan])
def test_share_out_of_range(q: float) -> None:
    """Given a share that is none, when an energy rank is asked, then ValueError."""
    with pytest.raises(ValueError, match="not a share"):
        energy_rank(np.ones(3), q)


def count_above_random(a: FloatArray, b: FloatArray, scaling: float) -> int:
    """null_rank of a pair."""
    return null_rank(
        product_spectrum(a, b) * abs(scaling),
        frobenius_a=float(np.linalg.norm(a)),
        frobenius_b=float(np.linalg.norm(b)),
        scaling=scaling,
        shape=(b.shape[0], a.shape[1]),
        r=a.shape[0],
    )


@pytest.mark.parametrize("kaiming", [True, False])
@pytest.mark.parametrize("r", [1, 4, 16, 64])
def test_random_adapter_has_nothing_above_random(r: int, kaiming: bool) -> None:
    """Given random factors, Gaussian or as PEFT initialises A, when counted against random, then 0 or 1 are above."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        n = 256
        a = rng.uniform(-1, 1, (r, n)) / math.sqrt(n) if kaiming else rng.standard_normal((r, n))
        assert count_above_random(a, rng.standard_normal((192, r)), 2.0) <= 1


@pytest.mark.parametrize("scaling", [0.25, -2.0])
def test_planted_directions_are_above_random(scaling: float) -> None:
    """Given five directions in B at twice its largest noise, r = 64, when counted against random, then five."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        m, n, r = 512, 768, 64
        a, b = rng.uniform(-1, 1, (r, n)) / math.sqrt(n), rng.standard_normal((m, r))
        left, inner = np.linalg.qr(rng.standard_normal((m, 5)))[0], np.linalg.qr(rng.standard_normal((r, 5)))[0]
        assert count_above_random(a, b + 2 * np.linalg.norm(b, 2) * left @ inner.T, scaling) == 5


def test_null_rank_at_the_edges() -> None:
    """Given zero factors, impossible shapes or NaN, when counted against random, then 0, or ValueError."""
    known = {"frobenius_a": 1.0, "frobenius_b": 0.0, "scaling": 1.0, "shape": (4, 4), "r": 2}
    assert null_rank(np.zeros(2), **known) == 0
    with pytest.raises(ValueError, match="at least 1"):
        null_rank(np.zeros(2), **{**known, "r": 0})
    with pytest.raises(ValueError, match="at least 1"):
        null_rank(np.zeros(2), **{**known, "shape": (0, 4)})
    with pytest.raises(ValueError, match="NaN"):
        null_rank(np.zeros(2), **{**known, "scaling": math.nan})
    with pytest.raises(ValueError, match="NaN"):
        null_rank(SPOILT, **known)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40), st.floats(0, 100))
def test_percentile_is_that_of_numpy(values: list[float], q: float) -> None:
    """Given any values, when a percentile is taken, then it is numpy's and lies where type 7 has it."""
    found = percentile(values, q)
    assert found == np.percentile(values, q)
    ordered = sorted(values)
    place = q / 100 * (len(values) - 1)
    assert ordered[math.floor(place)] - 1e-6 <= found <= ordered[min(math.floor(place) + 1, len(values) - 1)] + 1e-6


def test_percentile_at_the_edges() -> None:
    """Given no values, an array, or a q that is none, when a percentile is taken, then NaN, the middle, ValueError."""
    assert math.isnan(percentile([], 50))
    assert percentile(np.array([4.0, 1.0, 2.0, 3.0]), 50) == 2.5
    assert percentile([1, 2, 3, 4, 5], 90) == pytest.approx(4.6)
    for q in (-1, 101, math.nan):
        with pytest.raises(ValueError, match=r"0\.\.100"):
            percentile([1.0], q)


@pytest.mark.parametrize(
    ("rank", "limit", "wanted"),
    [
        (0, None, 1),
        (0.2, 8, 1),
        (1, None, 1),
        (2.0000001, None, 4),
        (9, None, 12),
        (9, 10, 10),
        (10, 10, 10),
        (11, 10, 10),
        (math.inf, 16, 16),
        (256, None, 256),
        (257, None, 320),
        (320, None, 320),
        (257, 300, 300),
        (3, 1, 1),
    ],
)
def test_rank_is_rounded_up(rank: float, limit: int | None, wanted: int) -> None:
    """Given a rank and a limit, when rounded up, then it is the next allowed one, never 0, never above the limit."""
    assert round_up_rank(rank, limit=limit) == wanted


@given(st.floats(-5, 5000), st.integers(1, 600))
def test_rounded_rank_stays_in_bounds(rank: float, limit: int) -> None:
    """Given any rank, when rounded up, then it is allowed or the limit, and not below the rank unless limited."""
    found = round_up_rank(rank, limit=limit)
    assert 1 <= found <= limit
    assert found == limit or (found >= rank and (found in ALLOWED_RANKS or found % 64 == 0))


def test_ranks_that_do_not_exist_are_refused() -> None:
    """Given NaN, infinity without a limit, or limit 0, when rounded up, then ValueError."""
    for rank, limit in ((math.nan, 8), (math.inf, None), (3.0, 0)):
        with pytest.raises(ValueError, match="no rank follows"):
            round_up_rank(rank, limit=limit)
    assert round_up_rank(5, allowed=(3, 6)) == 6


def test_a_rank_that_is_allowed_but_for_rounding_is_not_rounded_up() -> None:
    """Given a percentile that is a bit of rounding above an allowed rank, when rounded up, then it is that rank."""
    assert round_up_rank(128.00000000000003) == 128
    assert round_up_rank(128.001) == 192
    assert round_up_rank(7.9999999999999, limit=8) == 8
