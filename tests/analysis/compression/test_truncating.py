"""Cutting by Gram matrices, and the size of a difference, against dense float64 arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gradience_analysis.adapters.factors import Layout, TensorPlace
from gradience_analysis.compression.originals import join, split
from gradience_analysis.compression.truncating import cut, difference
from gradience_analysis.linalg import grams, spectra

Array = NDArray[np.float64]
SIZES = st.integers(1, 40)


def pair(seed: int, m: int, n: int, r: int, decay: float, size: float = 1.0) -> tuple[Array, Array]:
    """lora_A (r, n) and lora_B (m, r) with falling columns."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((r, n)) * size, rng.standard_normal((m, r)) * decay ** np.arange(r)


def dense(delta: Array, rank: int) -> Array:
    """The best approximation of this rank."""
    u, s, vt = np.linalg.svd(delta, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


@given(
    seed=st.integers(0, 2**32 - 1),
    m=SIZES,
    n=SIZES,
    r=st.integers(1, 12),
    rank=st.integers(1, 12),
    decay=st.floats(0.05, 1.0),
    scaling=st.sampled_from([1.0, 0.5, -2.0, 1 / 3, 2.83]),
    size=st.sampled_from([1.0, 1e-6, 1e5]),
)
@settings(max_examples=150, deadline=None)
def test_a_cut_is_the_best_approximation(
    seed: int, m: int, n: int, r: int, rank: int, decay: float, scaling: float, size: float
) -> None:
    """Given any factors, when cut, then the product is the best of that rank, of balanced factors."""
    a, b = pair(seed, m, n, r, decay, size)
    rank = min(rank, r)
    delta = scaling * b @ a
    gram = grams(a, b)
    (spectrum,) = spectra([gram])
    norm = float(np.linalg.norm(delta))
    optimum = float(np.linalg.norm(delta - dense(delta, rank)))
    for found in (gram if spectrum.certain else None, None):
        new_a, new_b = cut((a, b), found, rank, scaling)
        assert (new_a.shape, new_b.shape) == ((rank, n), (m, rank))
        assert float(np.linalg.norm(delta - new_b @ new_a)) <= optimum * (1 + 1e-7) + norm * 1e-9
        assert np.allclose(new_a @ new_a.T, new_b.T @ new_b, rtol=1e-6, atol=1e-8 * norm)


@given(
    seed=st.integers(0, 2**32 - 1),
    m=SIZES,
    n=SIZES,
    r=st.integers(1, 8),
    k=st.integers(1, 8),
    gap=st.sampled_from([1.0, 1e-3, 1e-6, 1e-9]),
)
@settings(max_examples=100, deadline=None)
def test_a_difference_is_that_of_the_dense_products(seed: int, m: int, n: int, r: int, k: int, gap: float) -> None:
    """Given two pairs near to each other or not, when compared, then it is the norm of the dense difference."""
    a, b = pair(seed, m, n, r, 0.7)
    c, d = pair(seed + 1, m, n, k, 0.7)
    # The second is the first and a little of another.
    other = (np.concatenate([a, c]), np.concatenate([2 * b, gap * d], axis=1))
    wanted = float(np.linalg.norm(2 * b @ a - other[1] @ other[0]))
    found = difference((a, b), 2.0, other, 1.0)
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-13 * float(np.linalg.norm(b @ a)))


def test_equal_products_differ_by_nothing() -> None:
    """Given the same product by other factors, when compared, then the difference is that of rounding."""
    a, b = pair(3, 50, 60, 6, 0.5)
    turn = np.linalg.qr(np.random.default_rng(5).standard_normal((6, 6)))[0]
    assert difference((a, b), 1.0, (turn @ a, b @ turn.T), 1.0) < 1e-14 * float(np.linalg.norm(b @ a)) * 10


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_zero_columns_and_zero_products(rank: int) -> None:
    """Given columns of zeros, or a product of zero, when cut, then nothing is divided by zero."""
    a, b = pair(1, 20, 30, 6, 0.9)
    b[:, 3:] = 0
    gram = grams(a, b)
    for found in (gram, None):
        new_a, new_b = cut((a, b), found, rank, 2.0)
        assert np.allclose(new_b @ new_a, dense(2 * b @ a, rank), atol=1e-10)
    b[:] = 0
    new_a, new_b = cut((a, b), None, rank, 2.0)
    assert not (new_b @ new_a).any()
    assert new_a.shape == (rank, 30)


@pytest.mark.parametrize(
    ("layout", "a_shape", "b_shape", "parts"),
    [
        (Layout.LINEAR, (8, 5), (7, 8), 1),
        (Layout.EMBEDDING, (8, 50), (7, 8), 1),
        (Layout.CONV, (8, 3, 2, 5), (7, 8, 1, 1), 1),
        (Layout.CONV, (8, 3, 4), (7, 8, 1), 1),
        (Layout.GROUPED_CONV, (8, 3, 2, 5), (12, 2, 1, 1), 4),
        (Layout.EXPERTS, (12, 5), (7, 12), 3),
    ],
    ids=["linear", "embedding", "conv2d", "conv1d", "grouped", "experts"],
)
def test_join_is_the_inverse_of_split(
    layout: Layout, a_shape: tuple[int, ...], b_shape: tuple[int, ...], parts: int
) -> None:
    """Given the tensors of each layout, when split and joined, then they are the same, in the same shapes."""
    a, b = np.arange(math.prod(a_shape), dtype=float), np.arange(math.prod(b_shape), dtype=float)
    a, b = a.reshape(a_shape), b.reshape(b_shape)
    pairs = split(layout, a, b, parts)
    assert len(pairs) == parts
    assert all(one.shape[0] == other.shape[1] for one, other in pairs)
    new_a, new_b = join(layout, pairs, TensorPlace("f", "a", "F32", a_shape), TensorPlace("f", "b", "F32", b_shape))
    assert np.array_equal(a, new_a)
    assert np.array_equal(b, new_b)
