"""Singular values from factors, against values that were built in and against the dense SVD of the product."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.linalg import exact_spectrum, grams, product_spectrum, product_svd, spectra
from tests.analysis.linalg.pairs import FloatArray, frame, pair, spectra_of_any_kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEEDS = st.integers(0, 2**32 - 1)


def dense(lora_a: NDArray[np.floating], lora_b: NDArray[np.floating]) -> FloatArray:
    """Singular values of the product itself, filled up to length r."""
    found = np.linalg.svd(lora_b.astype(np.float64) @ lora_a.astype(np.float64), compute_uv=False)
    values = np.zeros(lora_a.shape[0])
    values[: min(found.size, values.size)] = found[: values.size]
    return values


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("r", [2, 8, 16, 64])
@pytest.mark.parametrize("condition", [1e2, 1e6, 1e10])
def test_every_value_is_right_to_a_millionth(condition: float, r: int, share: float) -> None:
    """Given factors built with known values, when they are taken, then each is right to 1e-6 of itself."""
    sigma = np.geomspace(1.0, 1 / condition, r)
    a, b = pair(sigma, 300, 200, share=share)
    assert product_spectrum(a, b) == pytest.approx(sigma, rel=1e-6, abs=0)
    assert exact_spectrum(a, b) == pytest.approx(sigma, rel=1e-6, abs=0)


@pytest.mark.parametrize("r", [1, 4, 16])
def test_float32_factors_give_the_dense_values(r: int) -> None:
    """Given random float32 factors, when their spectrum is taken, then it is that of the dense product in float64."""
    rng = np.random.default_rng(r)
    a, b = rng.standard_normal((r, 90), dtype=np.float32), rng.standard_normal((70, r), dtype=np.float32)
    assert product_spectrum(a, b) == pytest.approx(dense(a, b), rel=1e-12)
    (found,) = spectra([grams(a, b)])
    assert found.certain
    assert found.values == pytest.approx(dense(a, b), rel=1e-12)


def test_grams_are_products_of_the_factors() -> None:
    """Given factors longer than a piece, when their Gram matrices are taken, then they are A Aᵀ and Bᵀ B."""
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((3, 70_001)), rng.standard_normal((50_000, 3))
    found = grams(a, b)
    assert found.a == pytest.approx(a @ a.T, rel=1e-12, abs=1e-8)
    assert found.b == pytest.approx(b.T @ b, rel=1e-12, abs=1e-8)
    assert np.trace(found.a) == pytest.approx(np.linalg.norm(a) ** 2)


def test_mild_condition_is_certain() -> None:
    """Given factors of condition 1e3, when the fast way is taken, then it is certain and right."""
    sigma = np.geomspace(1.0, 1e-6, 8)
    (found,) = spectra([grams(*pair(sigma, 100, 80))])
    assert found.certain
    assert found.values == pytest.approx(sigma, rel=1e-7, abs=0)


@pytest.mark.parametrize("condition", [1e5, 1e7, 1e12])
def test_steep_factor_is_not_certain(condition: float) -> None:
    """Given one factor of condition 1e5 and more, when the fast way is taken, then it says that it is not certain."""
    sigma = np.geomspace(1.0, 1 / condition, 8)
    (found,) = spectra([grams(*pair(sigma, 100, 80, share=1.0))])
    assert not found.certain
    assert found.values == pytest.approx(sigma, abs=1e-7)


def test_dependent_rows_are_not_certain_and_then_exact() -> None:
    """Given two equal rows of A, when the spectrum is taken, then the fast way is unsure and the last value is 0."""
    a, b = pair(np.ones(4), 50, 40)
    a[3] = a[2]
    (found,) = spectra([grams(a, b)])
    assert not found.certain
    assert product_spectrum(a, b) == pytest.approx(dense(a, b), abs=1e-14)


def test_rows_of_very_different_scale_stay_certain() -> None:
    """Given orthogonal rows of norms 1 to 1e-9, when the fast way is taken, then it is certain: scale is no loss."""
    norms = np.geomspace(1.0, 1e-9, 6)
    rng = np.random.default_rng(2)
    a, b = norms[:, None] * frame(rng, 60, 6).T, frame(rng, 50, 6)
    (found,) = spectra([grams(a, b)])
    assert found.certain
    assert found.values == pytest.approx(norms, rel=1e-6, abs=0)


@given(spectra_of_any_kind(), st.floats(0, 1), SEEDS)
def test_what_is_certain_is_right(sigma: FloatArray, share: float, seed: int) -> None:
    """Given any spectrum, when the fast way is certain, then each value above rounding is right to 1e-6."""
    positive = sigma[sigma > 0]
    (found,) = spectra([grams(*pair(positive, 40, 30, share=share, seed=seed))])
    if found.certain:
        assert found.values == pytest.approx(positive, rel=1e-6, abs=0)
    else:
        assert positive[-1] < 1e-3 * positive[0]


@given(spectra_of_any_kind(), SEEDS)
def test_spectrum_is_that_which_was_built_in(sigma: FloatArray, seed: int) -> None:
    """Given any spectrum with zeros too, when it is taken from factors, then it comes out, to rounding of the first."""
    found = product_spectrum(*pair(sigma, 40, 30, seed=seed))
    assert found == pytest.approx(sigma, rel=1e-6, abs=1e-14)
    assert (np.diff(found) <= 0).all()
    assert (found >= 0).all()


@given(spectra_of_any_kind(least=2), st.sampled_from([1e-30, 1e-12, 6e-5, 3e4, 1e30]), SEEDS)
def test_values_scale_with_the_factors(sigma: FloatArray, factor: float, seed: int) -> None:
    """Given factors times a number, down to float16's and float32's limits, then the values are times its square."""
    a, b = pair(np.maximum(sigma, 1e-4), 24, 20, seed=seed)
    found = product_spectrum(factor * a, factor * b)
    assert found == pytest.approx(factor * factor * product_spectrum(a, b), rel=1e-9, abs=0)


@pytest.mark.parametrize("scale", [1e-200, 1e-130, 1e130, 1e150])
def test_float64_beyond_the_range_of_squares(scale: float) -> None:
    """Given one factor whose squares leave the range of a double, when the spectrum is taken, then it is right."""
    sigma = np.array([1.0, 0.5, 0.01])
    a, b = pair(sigma, 10, 9)
    assert product_spectrum(a * scale, b) == pytest.approx(sigma * scale, rel=1e-9, abs=0)
    assert exact_spectrum(a * scale, b / scale) == pytest.approx(sigma, rel=1e-9, abs=0)


def test_gram_near_underflow_is_not_certain() -> None:
    """Given rows whose squares are almost too small for a double, when the fast way is taken, then it is unsure."""
    a, b = pair([1.0, 0.5], 10, 9)
    (found,) = spectra([grams(a * 1e-155, b)])
    assert not found.certain


@given(spectra_of_any_kind(least=2), SEEDS)
def test_rotations_and_changes_of_basis_change_nothing(sigma: FloatArray, seed: int) -> None:
    """Given a pair, when it is rotated outside, rebased inside or its ranks permuted, then the spectrum stays."""
    a, b = pair(np.maximum(sigma, 1e-3), 30, 26, seed=seed)
    r = a.shape[0]
    rng = np.random.default_rng(seed)
    wanted = product_spectrum(a, b)
    assert product_spectrum(a @ frame(rng, 26, 26), b) == pytest.approx(wanted, rel=1e-8)
    assert product_spectrum(a, frame(rng, 30, 30) @ b) == pytest.approx(wanted, rel=1e-8)
    inside = frame(rng, r, r) * rng.uniform(0.1, 10, r) @ frame(rng, r, r)
    assert product_spectrum(np.linalg.solve(inside, a), b @ inside) == pytest.approx(wanted, rel=1e-8)
    order = rng.permutation(r)
    assert product_spectrum(a[order], b[:, order]) == pytest.approx(wanted, rel=1e-8)


@pytest.mark.parametrize(("m", "n", "r"), [(3, 50, 8), (50, 3, 8), (2, 2, 5), (1, 1, 4), (1, 9, 1), (7, 7, 7)])
def test_rank_above_the_smaller_side(m: int, n: int, r: int) -> None:
    """Given r beyond min(m, n), when the spectrum is taken, then it has length r and ends in zeros."""
    rng = np.random.default_rng(m)
    a, b = rng.standard_normal((r, n)), rng.standard_normal((m, r))
    wanted = dense(a, b)
    assert product_spectrum(a, b) == pytest.approx(wanted, rel=1e-9, abs=1e-13)
    assert exact_spectrum(a, b) == pytest.approx(wanted, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_zero_factors(dtype: type) -> None:
    """Given B = 0, as LoRA starts, or A = 0, when the spectrum is taken, then it is zeros, and certain."""
    a, b = np.ones((4, 9), dtype=dtype), np.zeros((7, 4), dtype=dtype)
    for left, right in ((a, b), (np.zeros_like(a), np.ones_like(b)), (np.zeros_like(a), b)):
        assert product_spectrum(left, right).tolist() == [0.0] * 4
        assert exact_spectrum(left, right).tolist() == [0.0] * 4
    rng = np.random.default_rng(0)
    (found,) = spectra([grams(rng.standard_normal((4, 9)).astype(dtype), b)])
    assert found.certain


def test_zero_column_of_b_is_certain() -> None:
    """Given a rank whose column of B is 0, when the fast way is taken, then its value is 0 and it is certain."""
    a, b = pair([3.0, 2.0, 1.0], 20, 20)
    b[:, 1] = 0.0
    (found,) = spectra([grams(a, b)])
    assert found.certain
    assert found.values == pytest.approx(dense(a, b), abs=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("in_a", [True, False])
def test_not_finite_gives_nan(bad: float, in_a: bool) -> None:
    """Given an entry that is not finite, when the spectrum is taken, then every value is NaN, and nothing warns."""
    a, b = pair([2.0, 1.0], 6, 5)
    (a if in_a else b)[1, 1] = bad
    (found,) = spectra([grams(a, b)])
    assert found.certain
    assert np.isnan(found.values).all()
    assert np.isnan(product_spectrum(a, b)).all()
    assert np.isnan(exact_spectrum(a.astype(np.float32), b)).all()
    with pytest.raises(ValueError, match="NaN or infinite"):
        product_svd(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [((0, 4), (5, 0)), ((2, 0), (5, 2)), ((2, 4), (0, 2)), ((2, 4), (5, 3)), ((4,), (5, 4)), ((2, 4, 1), (5, 2))],
    ids=str,
)
def test_what_is_no_pair_is_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """Given shapes that are no LoRA pair or have no entries, when anything is asked of them, then ValueError."""
    for ask in (grams, exact_spectrum, product_spectrum, product_svd):
        with pytest.raises(ValueError, match=r"not a LoRA pair|without entries"):
            ask(np.zeros(a), np.zeros(b))


def test_a_batch_is_each_alone() -> None:
    """Given many pairs of mixed rank, one singular and one with NaN, when batched, then each is as if alone."""
    rng = np.random.default_rng(5)
    items = []
    for place in range(60):
        r = (1, 4, 7)[place % 3]
        a, b = rng.standard_normal((r, 30)), rng.standard_normal((20, r))
        if place == 10:
            a[1] = a[0]
        if place == 31:
            b[0, 0] = np.nan
        items.append(grams(a, b))
    found = spectra(items)
    assert [one.values.size for one in found] == [(1, 4, 7)[place % 3] for place in range(60)]
    assert [place for place, one in enumerate(found) if not one.certain] == [10]
    for item, one in zip(items, found, strict=True):
        np.testing.assert_allclose(one.values, spectra([item])[0].values, rtol=1e-9, atol=1e-7)
    assert [place for place, one in enumerate(found) if np.isnan(one.values).any()] == [31]
    assert spectra([]) == []


def test_large_ranks_are_factored_in_parts() -> None:
    """Given more large cores than one call takes, when their spectra are taken, then all come back in order."""
    items = [grams(*pair(np.linspace(k, 0.5, 300), 310, 305, seed=k)) for k in range(1, 9)]
    assert [round(one.values[0], 6) for one in spectra(items)] == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(("m", "n", "r"), [(20, 30, 4), (3, 30, 6), (30, 2, 6)])
def test_product_svd_puts_the_product_together(m: int, n: int, r: int) -> None:
    """Given a pair, when it is decomposed, then the parts are orthonormal and multiply to B A."""
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((r, n)), rng.standard_normal((m, r))
    svd = product_svd(a, b)
    k = min(m, n, r)
    assert svd.u.T @ svd.u == pytest.approx(np.eye(k), abs=1e-13)
    assert svd.v.T @ svd.v == pytest.approx(np.eye(k), abs=1e-13)
    assert svd.u * svd.sigma @ svd.v.T == pytest.approx(b @ a, abs=1e-12)
