"""Factored truncation, against the truncated SVD of the dense product."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.linalg import truncate
from tests.analysis.linalg.pairs import FloatArray, pair, spectra_of_any_kind


def optimal(product: FloatArray, k: int) -> FloatArray:
    """The best approximation of rank k, from the dense SVD."""
    u, sigma, vt = np.linalg.svd(product, full_matrices=False)
    return u[:, :k] * sigma[:k] @ vt[:k]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rank", [1, 3, 7, 8])
@pytest.mark.parametrize("scaling", [2.0, -0.25])
def test_truncation_is_the_optimal_one(rank: int, scaling: float, dtype: type) -> None:
    """Given a random pair, when truncated, then the new pair is the best approximation to 1e-10 of the update."""
    rng = np.random.default_rng(rank)
    a, b = rng.standard_normal((8, 50)).astype(dtype), rng.standard_normal((60, 8)).astype(dtype)
    found = truncate(a, b, rank=rank, scaling=scaling)
    product = scaling * b.astype(np.float64) @ a.astype(np.float64)
    left = np.linalg.norm(found.lora_b @ found.lora_a - optimal(product, rank))
    assert left <= 1e-10 * np.linalg.norm(product)
    assert found.error == pytest.approx(np.linalg.norm(product - optimal(product, rank)), abs=1e-10)
    assert (found.lora_a.shape, found.lora_b.shape, found.kept) == ((rank, 50), (60, rank), rank)


@given(spectra_of_any_kind(), st.integers(1, 20), st.integers(0, 999))
def test_error_is_the_tail(sigma: FloatArray, rank: int, seed: int) -> None:
    """Given any spectrum, when truncated, then the error is the root of the energy cut off, as formula and in fact."""
    a, b = pair(sigma, 40, 30, seed=seed)
    found = truncate(a, b, rank=rank, scaling=0.5)
    tail = 0.5 * math.sqrt(math.fsum(value * value for value in sigma[rank:]))
    assert found.error == pytest.approx(tail, rel=1e-6, abs=1e-14)
    assert np.linalg.norm(found.lora_b @ found.lora_a - 0.5 * b @ a) == pytest.approx(tail, rel=1e-6, abs=1e-13)
    assert found.sigma == pytest.approx(0.5 * sigma, rel=1e-6, abs=1e-14)


@given(spectra_of_any_kind(), st.integers(0, 999))
def test_factors_are_balanced(sigma: FloatArray, seed: int) -> None:
    """Given any spectrum, when truncated, then both Gram matrices of the new pair are diag(sigma)."""
    found = truncate(*pair(sigma, 40, 30, share=0.9, seed=seed), rank=4)
    wanted = np.diag(found.sigma[: found.kept])
    assert found.lora_a @ found.lora_a.T == pytest.approx(wanted, abs=1e-13)
    assert found.lora_b.T @ found.lora_b == pytest.approx(wanted, abs=1e-13)


@pytest.mark.parametrize("rank", [6, 7, 1000])
def test_rank_enough_loses_nothing(rank: int) -> None:
    """Given r or more, when truncated, then nothing is lost and no more than r is kept."""
    a, b = pair([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 20, 30)
    found = truncate(a, b, rank=rank, scaling=3.0)
    assert (found.kept, found.error) == (6, 0.0)
    assert found.lora_b @ found.lora_a == pytest.approx(3 * b @ a, abs=1e-12)


def test_rank_beyond_the_smaller_side() -> None:
    """Given r above min(m, n), when truncated to r, then min(m, n) is kept and sigma still has length r."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((9, 4)), rng.standard_normal((30, 9))
    found = truncate(a, b, rank=9)
    assert (found.kept, found.sigma.size, found.error) == (4, 9, 0.0)
    assert found.lora_b @ found.lora_a == pytest.approx(b @ a, abs=1e-12)


@pytest.mark.parametrize("scaling", [0.0, 1.0])
def test_an_update_of_zero(scaling: float) -> None:
    """Given B = 0 or scaling 0, when truncated, then the new pair is zeros and the error 0."""
    a, b = pair([2.0, 1.0], 9, 8)
    found = truncate(a, b * (1 - scaling), rank=1, scaling=scaling)
    assert not found.lora_a.any()
    assert not found.lora_b.any()
    assert found.error == 0.0


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extreme_scale(scale: float) -> None:
    """Given factors of extreme scale, when truncated, then the best approximation keeps its digits."""
    a, b = pair([2.0, 1.0, 0.5], 9, 8)
    found = truncate(a * scale, b * scale, rank=2)
    assert found.lora_b @ found.lora_a / scale**2 == pytest.approx(optimal(b @ a, 2), abs=1e-12)
    assert found.error == pytest.approx(0.5 * scale**2, rel=1e-12)


def test_what_cannot_be_truncated() -> None:
    """Given rank 0, a scaling or an entry that is not finite, or no pair, when truncated, then ValueError."""
    a, b = pair([2.0, 1.0], 9, 8)
    for rank in (0, -1):
        with pytest.raises(ValueError, match="rank 1 or more"):
            truncate(a, b, rank=rank)
    for scaling in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not finite"):
            truncate(a, b, rank=1, scaling=scaling)
    with pytest.raises(ValueError, match="not a LoRA pair"):
        truncate(a, b[:, :1], rank=1)
    b[0, 0] = math.inf
    with pytest.raises(ValueError, match="NaN or infinite"):
        truncate(a, b, rank=1)
