"""Overlap of two updates, against the dense SVD of both, and its baselines against many random pairs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradience_analysis.linalg import Overlap, overlap
from gradience_analysis.linalg.spectrum import ProductSVD, product_svd
from tests.analysis.linalg.pairs import FloatArray, frame, pair

M, N = 40, 28


def random_pair(rng: np.random.Generator, r: int, m: int = M, n: int = N) -> tuple[FloatArray, FloatArray]:
    """Gaussian A and B."""
    return rng.standard_normal((r, n)), rng.standard_normal((m, r))


@given(st.integers(1, 10), st.integers(1, 10), st.sampled_from([-2.0, 0.5, 3.0]), st.integers(0, 999))
def test_overlap_is_that_of_the_dense_updates(i: int, j: int, scale: float, seed: int) -> None:
    """Given two pairs that share some of B, when compared, then all is as the dense SVD of both says."""
    rng = np.random.default_rng(seed)
    (a1, b1), (a2, b2) = random_pair(rng, i), random_pair(rng, j)
    b2[:, 0] += 3 * b1[:, 0]
    found = overlap(a1, b1, a2, b2, scale1=scale, scale2=1.5)
    d1, d2 = scale * b1 @ a1, 1.5 * b2 @ a2
    u1, _, v1 = np.linalg.svd(d1)
    u2, _, v2 = np.linalg.svd(d2)
    assert (found.rank_a, found.rank_b) == (i, j)
    assert found.left == pytest.approx(np.linalg.norm(u1[:, :i].T @ u2[:, :j]) ** 2 / min(i, j), abs=1e-9)
    assert found.right == pytest.approx(np.linalg.norm(v1[:i] @ v2[:j].T) ** 2 / min(i, j), abs=1e-9)
    norms = np.linalg.norm(d1), np.linalg.norm(d2)
    assert found.direction == pytest.approx(float((d1 * d2).sum() / norms[0] / norms[1]), abs=1e-12)
    assert found.magnitude_ratio == pytest.approx(norms[0] / norms[1])
    assert 0 <= found.left <= 1 + 1e-12
    assert 0 <= found.right <= 1 + 1e-12


class Ways:
    """Counts the decompositions by QR, and can refuse every Gram matrix."""

    def __init__(self, patch: pytest.MonkeyPatch, *, least_gap: float | None = None) -> None:
        self.by_qr = 0
        patch.setattr("gradience_analysis.linalg.subspace.product_svd", self._counted)
        if least_gap is not None:
            patch.setattr("gradience_analysis.linalg.subspace._LEAST_GAP", least_gap)

    def _counted(self, lora_a: FloatArray, lora_b: FloatArray) -> ProductSVD:
        self.by_qr += 1
        return product_svd(lora_a, lora_b)


def assert_same(one: Overlap, other: Overlap, tolerance: float) -> None:
    """Both comparisons say the same."""
    assert (one.rank_a, one.rank_b) == (other.rank_a, other.rank_b)
    for name in ("left", "right", "direction"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=tolerance, nan_ok=True)
    assert one.magnitude_ratio == pytest.approx(other.magnitude_ratio, rel=tolerance, nan_ok=True)


def related(seed: int, i: int, j: int, condition: float, m: int = 90, n: int = 70) -> list[FloatArray]:
    """Two pairs with a direction in common, whose B have columns that fall off to 1 / condition and are mixed."""
    rng = np.random.default_rng(seed)
    (a1, b1), (a2, b2) = random_pair(rng, i, m, n), random_pair(rng, j, m, n)
    b1, b2 = ((b * np.geomspace(1, 1 / condition, b.shape[1])) @ frame(rng, *2 * b.shape[1:]) for b in (b1, b2))
    a2[0] += a1[0]
    b2[:, 0] += b1[:, 0]
    return [a1, b1, a2, b2]


@given(
    st.integers(1, 16),
    st.integers(1, 16),
    st.sampled_from([None, 0.5, 0.9, 0.99]),
    st.floats(0, 9),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 9999),
)
@settings(max_examples=150)
def test_both_ways_agree(
    i: int, j: int, energy: float | None, exponent: float, dtype: type[np.floating[Any]], seed: int
) -> None:
    """Given pairs of condition 1 to 1e9, when compared as usual and by QR alone, then figures agree to 1e-8."""
    factors = [one.astype(dtype) for one in related(seed, i, j, 10**exponent)]
    a1, b1, a2, b2 = factors
    found = overlap(a1, b1, a2, b2, energy=energy)
    with pytest.MonkeyPatch.context() as patch:
        ways = Ways(patch, least_gap=math.inf)
        exact = overlap(a1, b1, a2, b2, energy=energy)
        assert ways.by_qr == 2
    assert_same(found, exact, 1e-8)


@pytest.mark.parametrize("energy", [0.9, None])
def test_pairs_of_good_condition_need_no_qr(monkeypatch: pytest.MonkeyPatch, energy: float | None) -> None:
    """Given random factors, and one of them B = 0, when compared, then Gram matrices are enough."""
    ways = Ways(monkeypatch)
    rng = np.random.default_rng(0)
    (a1, b1), (a2, b2) = random_pair(rng, 16, 5000, 3000), random_pair(rng, 5, 5000, 3000)
    assert overlap(a1, b1, a2, b2, energy=energy).rank_b == 5
    a1, b1, a2, b2 = (one.astype(np.float32) for one in (a1, b1, a2, np.zeros((5000, 5))))
    assert overlap(a1, b1, a2, b2, energy=energy).rank_b == 0
    assert ways.by_qr == 0


def test_values_that_gram_matrices_lose_are_taken_by_qr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a spectrum down to 1e-9, when all directions are asked for, then QR gives them, and Gram the first."""
    ways = Ways(monkeypatch)
    (a1, b1), (a2, b2) = pair(np.geomspace(1, 1e-9, 6), M, N), pair([3.0, 2.0, 1.0], M, N, seed=1)
    u1, u2 = np.linalg.svd(b1 @ a1)[0], np.linalg.svd(b2 @ a2)[0]
    found = overlap(a1, b1, a2, b2, rank1=2, rank2=3)
    assert found.left == pytest.approx(np.linalg.norm(u1[:, :2].T @ u2[:, :3]) ** 2 / 2, abs=1e-10)
    assert ways.by_qr == 0
    found = overlap(a1, b1, a2, b2)
    assert (found.rank_a, found.rank_b, ways.by_qr) == (6, 3, 2)
    assert overlap(a1, b1, a1, b1).left == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("what", ["equal values", "a small difference"])
def test_directions_that_gram_matrices_do_not_tell_are_taken_by_qr(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Given no gap behind the last direction, or an update that is a small difference, when compared, then by QR."""
    ways = Ways(monkeypatch)
    a, b = pair([2.0, 1.0, 1.0, 1.0] if what == "equal values" else [4.0, 3.0, 2.0, 1.0], M, N)
    if what == "a small difference":
        a = np.concatenate([a, a + 1e-7 * frame(np.random.default_rng(9), N, 4).T])
        b = np.concatenate([b, -b], axis=1)
    found = overlap(a, b, a, 2 * b, rank1=2, rank2=2)
    assert ways.by_qr == 2
    assert (found.left, found.right, found.direction) == (pytest.approx(1), pytest.approx(1), pytest.approx(1))


def test_rows_of_lora_a_that_are_there_twice() -> None:
    """Given an A of half its rank, when compared, then the update counts, whichever way could take it."""
    (a, b), (a2, b2) = pair([4.0, 3.0, 2.0], M, N), random_pair(np.random.default_rng(2), 4)
    twice = overlap(np.concatenate([a, a]), np.concatenate([b, b / 2], axis=1), a2, b2, energy=0.9)
    assert_same(twice, overlap(a, 1.5 * b, a2, b2, energy=0.9), 1e-9)


def test_a_rank_below_that_of_the_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given B of rank 3 with 8 columns, as after three steps, when asked for the energy, then no QR is needed."""
    ways = Ways(monkeypatch)
    rng = np.random.default_rng(6)
    a, b = random_pair(rng, 8)
    b = b[:, :3] @ rng.standard_normal((3, 8))
    a2, b2 = random_pair(rng, 5)
    found = overlap(a, b, a2, b2, energy=0.95)
    u1, sigma1, v1 = np.linalg.svd(b @ a)
    u2, sigma2, v2 = np.linalg.svd(b2 @ a2)
    i, j = (int(np.argmax(np.cumsum(s**2) >= 0.95 * np.sum(s**2))) + 1 for s in (sigma1, sigma2))
    assert (found.rank_a, found.rank_b, ways.by_qr) == (i, j, 0)
    assert found.left == pytest.approx(np.linalg.norm(u1[:, :i].T @ u2[:, :j]) ** 2 / min(i, j), abs=1e-10)
    assert found.right == pytest.approx(np.linalg.norm(v1[:i] @ v2[:j].T) ** 2 / min(i, j), abs=1e-10)
    assert overlap(a, b, a2, b2).rank_a == 3


def test_leading_vectors_only() -> None:
    """Given ranks below the full ones, when compared, then only the leading singular vectors are."""
    rng = np.random.default_rng(1)
    (a1, b1), (a2, b2) = pair([5, 4, 3, 2], M, N, seed=1), random_pair(rng, 6)
    found = overlap(a1, b1, a2, b2, rank1=2, rank2=3)
    u1, u2 = np.linalg.svd(b1 @ a1)[0][:, :2], np.linalg.svd(b2 @ a2)[0][:, :3]
    assert (found.rank_a, found.rank_b) == (2, 3)
    assert found.left == pytest.approx(np.linalg.norm(u1.T @ u2) ** 2 / 2)
    assert found.left_baseline == pytest.approx(3 / M)
    assert overlap(a1, b1, a2, b2, rank1=99).rank_a == 4


def test_baselines_are_what_random_pairs_average() -> None:
    """Given 600 random pairs, when compared, then phi averages its baseline and the cosine spreads as said."""
    rng = np.random.default_rng(2)
    found = [overlap(*random_pair(rng, 5), *random_pair(rng, 3)) for _ in range(600)]
    one = found[0]
    assert (one.left_baseline, one.right_baseline) == (pytest.approx(5 / M), pytest.approx(5 / N))
    assert np.mean([each.left for each in found]) == pytest.approx(one.left_baseline, rel=0.05)
    assert np.mean([each.right for each in found]) == pytest.approx(one.right_baseline, rel=0.05)
    cosines = [each.direction for each in found]
    assert one.direction_baseline == pytest.approx(1 / math.sqrt(M * N))
    assert np.std(cosines) == pytest.approx(one.direction_baseline, rel=0.12)
    assert abs(np.mean(cosines)) < 4 * one.direction_baseline / math.sqrt(600)


def test_the_same_and_the_opposite_update() -> None:
    """Given an update and its double, its opposite, or one orthogonal to it, when compared, then 1, -1 and 0."""
    a, b = pair([3.0, 2.0, 1.0], M, N)
    same = overlap(a, b, a, b, scale2=2.0)
    assert (same.left, same.right, same.direction) == (pytest.approx(1), pytest.approx(1), pytest.approx(1))
    assert same.magnitude_ratio == pytest.approx(0.5)
    opposite = overlap(a, b, -a, b)
    assert (opposite.left, opposite.direction) == (pytest.approx(1), pytest.approx(-1))
    rebased = overlap(a, b, 4 * a[::-1], b[:, ::-1])
    assert (rebased.left, rebased.direction) == (pytest.approx(1), pytest.approx(1))
    left = frame(np.random.default_rng(3), M, 6)
    apart = overlap(a, left[:, :3], a, left[:, 3:])
    assert (apart.left, apart.direction) == (pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))
    assert apart.right == pytest.approx(1)


def test_pieces_make_up_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given factors longer than a piece, when pieces are of one row, some and all, then figures stay."""
    a1, b1, a2, b2 = related(0, 4, 3, 10.0)
    whole = overlap(a1, b1, a2, b2)
    for piece in (1, 64, 7 * 89):
        monkeypatch.setattr("gradience_analysis.linalg.subspace._PIECE", piece)
        assert_same(overlap(a1, b1, np.asfortranarray(a2), np.asfortranarray(b2)), whole, 1e-12)


@pytest.mark.parametrize("scale", [1e-120, 1e-75, 1e-30, 1e30, 1e120])
def test_scale_of_factors_does_not_matter(scale: float) -> None:
    """Given factors of extreme scale, when compared, then subspaces and direction stay."""
    rng = np.random.default_rng(4)
    (a1, b1), (a2, b2) = random_pair(rng, 4), random_pair(rng, 5)
    plain, scaled = overlap(a1, b1, a2, b2), overlap(a1 * scale, b1 * scale, a2, b2)
    assert scaled.left == pytest.approx(plain.left)
    assert scaled.direction == pytest.approx(plain.direction)
    assert scaled.magnitude_ratio == pytest.approx(plain.magnitude_ratio * scale * scale)


@pytest.mark.parametrize("tiny", [1e-158, 1e-170])
def test_squares_below_the_range_of_a_double_count(tiny: float) -> None:
    """Given a tiny A beside a large B, when compared, then the update counts, though the squares of A are lost."""
    rng = np.random.default_rng(4)
    (a1, b1), (a2, b2) = random_pair(rng, 4), random_pair(rng, 5)
    assert_same(overlap(a1 * tiny, b1 / tiny, a2, b2), overlap(a1, b1, a2, b2), 1e-9)
    assert_same(overlap(a1 * tiny, b1 * 1e130, a2, b2 * tiny * 1e130), overlap(a1, b1, a2, b2), 1e-9)


@pytest.mark.parametrize("which", ["B = 0", "A = 0", "scale 0"])
def test_an_update_of_zero_has_no_subspace(which: str) -> None:
    """Given an update that is 0, when compared, then its rank is 0 and what needs a subspace is NaN."""
    a, b = pair([3.0, 2.0], M, N)
    a2 = np.zeros_like(a) if which == "A = 0" else a
    b2 = np.zeros_like(b) if which == "B = 0" else b
    scale = 0.0 if which == "scale 0" else 1.0
    found = overlap(a, b, a2, b2, scale2=scale)
    assert (found.rank_a, found.rank_b) == (2, 0)
    assert all(
        math.isnan(value)
        for value in (found.left, found.right, found.direction, found.left_baseline, found.right_baseline)
    )
    assert found.magnitude_ratio == math.inf
    assert overlap(a2, b2, a, b, scale1=scale).magnitude_ratio == 0.0
    assert math.isnan(overlap(a2, b2, a2, b2, scale1=scale, scale2=scale).magnitude_ratio)


def test_rank_beyond_the_smaller_side() -> None:
    """Given r above min(m, n), when compared with itself, then the subspace has the smaller side's dimension."""
    rng = np.random.default_rng(5)
    a, b = random_pair(rng, 9, m=6, n=20)
    found = overlap(a, b, a, b)
    assert (found.rank_a, found.left, found.right) == (6, pytest.approx(1), pytest.approx(1))


def test_what_cannot_be_compared() -> None:
    """Given other shapes, NaN, a scale that is not finite or rank 0, when compared, then ValueError."""
    a, b = pair([3.0, 2.0], M, N)
    spoilt = a.copy()
    spoilt[0, 0] = math.nan
    with pytest.raises(ValueError, match="do not compare"):
        overlap(a, b, a[:, 1:], b)
    with pytest.raises(ValueError, match="do not compare"):
        overlap(a, b, a, b[1:])
    with pytest.raises(ValueError, match="NaN or infinite"):
        overlap(a, b, spoilt, b)
    with pytest.raises(ValueError, match="finite"):
        overlap(a, b, a, b, scale1=math.inf)
    with pytest.raises(ValueError, match="dimension 1"):
        overlap(a, b, a, b, rank2=0)
    with pytest.raises(ValueError, match="not a share"):
        overlap(a, b, a, b, energy=0.0)
    with pytest.raises(OverflowError, match="larger than a double"):
        overlap(a * 1e200, b * 1e200, a, b)
    with pytest.raises(ValueError, match="not a LoRA pair"):
        overlap(a, b[:, :1], a, b)
