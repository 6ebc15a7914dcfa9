"""Norms of streamed matrices, against the dense SVD, on spectra that mislead iterations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradience_analysis.linalg import NormEstimate, matrix_norms, norms
from tests.analysis.linalg.pairs import FloatArray, frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

ABOVE = 1e-6
"""How far above the true norm rounding may take what is called a lower bound."""


class Streamed:
    """A matrix that hands out one buffer again and again, and counts its passes."""

    def __init__(self, whole: NDArray[np.floating], rows: int = 37) -> None:
        self.whole = whole
        self.shape = whole.shape
        self.passes = 0
        self._rows = rows

    def chunks(self) -> Iterator[NDArray[np.floating]]:
        """The rows, a few at a time, in the buffer."""
        self.passes += 1
        buffer = np.empty((self._rows, self.whole.shape[1]), dtype=self.whole.dtype)
        for first in range(0, self.whole.shape[0], self._rows):
            block = self.whole[first : first + self._rows]
            buffer[: len(block)] = block
            yield buffer[: len(block)]


def built(sigma: FloatArray, m: int, n: int, seed: int = 0) -> FloatArray:
    """A matrix with these singular values."""
    rng = np.random.default_rng(seed)
    return frame(rng, m, sigma.size) * sigma @ frame(rng, n, sigma.size).T


def upright(estimate: NormEstimate, whole: NDArray[np.floating], tolerance: float) -> None:
    """Assert that an estimate keeps all it promises."""
    wide = whole.astype(np.float64)
    true = float(np.linalg.svd(wide, compute_uv=False)[0])
    assert estimate.converged
    assert estimate.residual <= estimate.tolerance == tolerance
    assert estimate.spectral <= true * (1 + ABOVE)
    assert estimate.spectral >= true * (1 - tolerance) * (1 - 1e-7)
    assert estimate.frobenius == pytest.approx(math.sqrt(math.fsum(np.square(wide).ravel())), rel=1e-12)
    assert estimate.nonfinite == 0


K = 120
SPECTRA: dict[str, Callable[[], FloatArray]] = {
    "doublet .999": lambda: np.r_[1.0, 0.999, np.linspace(0.7, 0.1, K - 2)],
    "doublet .9999": lambda: np.r_[1.0, 0.9999, np.linspace(0.9, 0.1, K - 2)],
    "triple": lambda: np.r_[1.0, 0.9995, 0.999, np.linspace(0.8, 0.1, K - 3)],
    "flat": lambda: np.ones(K),
    "spike on flat": lambda: np.r_[1.001, np.ones(K - 1)],
    "two spikes on flat": lambda: np.r_[1.01, 1.005, np.ones(K - 2)],
    "rank 1": lambda: np.r_[1.0, np.zeros(K - 1)],
    "rank 3": lambda: np.r_[3.0, 2.0, 1.0, np.zeros(K - 3)],
    "steep": lambda: np.geomspace(1.0, 1e-12, K),
    "even": lambda: np.linspace(1.0, 0.01, K),
    "crowded": lambda: np.linspace(1.0, 0.9, K),
}


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-4, 1e-6])
@pytest.mark.parametrize("shape", [(150, 130), (120, 400), (400, 121)], ids=str)
@pytest.mark.parametrize("name", SPECTRA)
def test_claimed_tolerance_covers_the_error(name: str, shape: tuple[int, int], tolerance: float) -> None:
    """Given a spectrum that misleads, when the norm is claimed to a tolerance, then it is that near, and not above."""
    whole = built(SPECTRA[name](), *shape).astype(np.float32)
    for seed in range(3):
        upright(matrix_norms(Streamed(whole), tolerance=tolerance, seed=seed), whole, tolerance)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-4])
@pytest.mark.parametrize("name", ["doublet .999", "triple", "spike on flat"])
def test_no_start_is_taken_in(name: str, tolerance: float) -> None:
    """Given a doublet, a triple or a spike on a flat spectrum, when started 40 ways, then no start stops too low."""
    whole = np.diag(SPECTRA[name]()).astype(np.float32)
    for seed in range(40):
        assert matrix_norms(Streamed(whole), tolerance=tolerance, seed=seed).spectral >= whole[0, 0] * (1 - tolerance)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(300, 200), (130, 520)], ids=str)
def test_gaussian_matrix(shape: tuple[int, int], dtype: type) -> None:
    """Given a Gaussian matrix, when its norms are taken, then they are those of the dense SVD."""
    whole = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    upright(matrix_norms(Streamed(whole)), whole, 1e-4)


def test_tolerance_beyond_float32() -> None:
    """Given a tolerance that float32 cannot certify, when the norm is taken, then it is right to 1e-11 all the same."""
    whole = np.random.default_rng(1).standard_normal((200, 180)).astype(np.float32)
    found = matrix_norms(Streamed(whole), tolerance=1e-11)
    assert found.converged
    assert found.spectral == pytest.approx(np.linalg.norm(whole.astype(np.float64), 2), rel=1e-11)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_sums_of_one_sign(sign: float) -> None:
    """Given equal entries, whose float32 sums drift one way, when norms are taken, then both are right to 1e-6."""
    m, n = 300, 20_000
    whole = np.full((m, n), np.float32(0.1) * sign, dtype=np.float32)
    found = matrix_norms(Streamed(whole), tolerance=1e-6)
    wanted = float(np.float32(0.1)) * math.sqrt(m * n)
    assert found.converged
    assert found.spectral == pytest.approx(wanted, rel=1e-6)
    assert found.frobenius == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-36, 1e-20, 1e20, 1e36])
@pytest.mark.parametrize("shape", [(90, 80), (20, 200)], ids=str)
def test_entries_at_the_ends_of_float32(scale: float, shape: tuple[int, int]) -> None:
    """Given entries whose products leave float32, when norms are taken, then they are right: float64 steps in."""
    whole = (built(np.geomspace(1, 1e-2, min(shape)), *shape) * scale).astype(np.float32)
    upright(matrix_norms(Streamed(whole)), whole, 1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (64, 300), (300, 64), (5, 5)], ids=str)
def test_small_side_takes_one_pass(shape: tuple[int, int]) -> None:
    """Given a smaller side up to 64, when norms are taken, then one pass gives them to rounding."""
    whole = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    streamed = Streamed(whole)
    found = matrix_norms(streamed, tolerance=1e-12)
    assert streamed.passes == found.steps == 1
    assert found.converged
    assert found.spectral == pytest.approx(np.linalg.norm(whole.astype(np.float64), 2), rel=1e-12)


@pytest.mark.parametrize("shape", [(100, 80), (10, 80), (80, 10)], ids=str)
def test_zeros(shape: tuple[int, int]) -> None:
    """Given a matrix of zeros, when norms are taken, then both are 0, and that is certain."""
    found = matrix_norms(Streamed(np.zeros(shape, dtype=np.float32)))
    assert (found.spectral, found.frobenius, found.residual, found.converged) == (0.0, 0.0, 0.0, True)


@pytest.mark.parametrize("shape", [(100, 80), (10, 80), (80, 10)], ids=str)
def test_what_is_not_finite_is_counted(shape: tuple[int, int]) -> None:
    """Given NaN and infinite entries, when norms are taken, then one pass counts them, and no norm is made up."""
    whole = np.ones(shape, dtype=np.float32)
    whole[3, 4] = math.nan
    whole[shape[0] - 1, 0] = math.inf
    whole[shape[0] - 1, 1] = -math.inf
    streamed = Streamed(whole)
    found = matrix_norms(streamed)
    assert found.nonfinite == 3
    assert math.isnan(found.spectral)
    assert math.isnan(found.frobenius)
    assert not found.converged
    assert streamed.passes == 1


def test_steps_run_out() -> None:
    """Given too few steps, when the norm is taken, then it says so, and the residual tells how far off it may be."""
    whole = np.random.default_rng(3).standard_normal((400, 400)).astype(np.float32)
    streamed = Streamed(whole)
    found = matrix_norms(streamed, tolerance=1e-6, max_steps=4)
    true = float(np.linalg.norm(whole.astype(np.float64), 2))
    assert not found.converged
    assert streamed.passes == found.steps == 4
    assert 1e-6 < found.residual < 0.5
    assert 0.8 * true < found.spectral <= true


def test_residual_is_honest() -> None:
    """Given an estimate, when some singular value is sought within its residual, then there is one."""
    whole = np.random.default_rng(4).standard_normal((200, 150)).astype(np.float32)
    values = np.linalg.svd(whole.astype(np.float64), compute_uv=False)
    for steps in range(2, 20, 3):
        found = matrix_norms(Streamed(whole), tolerance=1e-7, max_steps=steps)
        assert np.abs(values / found.spectral - 1).min() <= found.residual * (1 + 1e-6) + found.residual**2


def test_the_same_seed_gives_the_same() -> None:
    """Given one matrix, when taken twice, then the results are equal; another chunking gives the same to 1e-6."""
    whole = np.random.default_rng(5).standard_normal((150, 140)).astype(np.float32)
    assert matrix_norms(Streamed(whole)) == matrix_norms(Streamed(whole))
    assert matrix_norms(Streamed(whole, rows=1)).spectral == pytest.approx(
        matrix_norms(Streamed(whole, rows=150)).spectral, rel=1e-6
    )


def test_wide_rows_are_taken_in_tiles() -> None:
    """Given rows longer than a tile, when norms are taken, then they are those of the dense SVD."""
    whole = np.random.default_rng(6).standard_normal((70, 20_001)).astype(np.float32)
    upright(matrix_norms(Streamed(whole, rows=9)), whole, 1e-4)


def test_condensed_basis_reaches_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a basis that must be condensed on the way, when the norm is taken, then it is right all the same."""
    whole = built(np.linspace(1.0, 0.7, 300), 320, 310).astype(np.float32)
    plain = matrix_norms(Streamed(whole), tolerance=1e-6)
    monkeypatch.setattr(norms, "_BASIS_BYTES", 0)
    condensed = matrix_norms(Streamed(whole), tolerance=1e-6)
    upright(condensed, whole, 1e-6)
    assert condensed.steps >= plain.steps > norms._LEAST_BASIS / 4


def test_space_that_is_used_up_is_complete() -> None:
    """Given a tolerance that rounding forbids, when the space is used up, then it ends, and the value is exact."""
    whole = np.diag(np.linspace(1.0, 0.5, 66))
    found = matrix_norms(Streamed(whole), tolerance=1e-300, max_steps=500)
    assert found.steps <= 66
    assert found.spectral == pytest.approx(1.0, rel=1e-13)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: matrix_norms(Streamed(np.zeros((0, 5), dtype=np.float32))),
        lambda: matrix_norms(Streamed(np.zeros((5, 0), dtype=np.float32))),
        lambda: matrix_norms(Streamed(np.ones((5, 5))), tolerance=0.0),
        lambda: matrix_norms(Streamed(np.ones((5, 5))), tolerance=math.nan),
        lambda: matrix_norms(Streamed(np.ones((5, 5))), max_steps=0),
    ],
    ids=["no rows", "no columns", "tolerance 0", "tolerance NaN", "no steps"],
)
def test_what_cannot_be_asked(bad: Callable[[], NormEstimate]) -> None:
    """Given an empty matrix or an impossible demand, when norms are asked, then ValueError."""
    with pytest.raises(ValueError, match=r"has no norm|not above 0"):
        bad()


@pytest.mark.parametrize("shape", [(100, 90), (101, 89), (8, 9)], ids=str)
def test_chunks_that_are_not_the_matrix(shape: tuple[int, int]) -> None:
    """Given chunks that do not make up the shape, when norms are asked, then ValueError."""
    streamed = Streamed(np.ones((100, 89), dtype=np.float32))
    streamed.shape = shape
    with pytest.raises(ValueError, match="in a matrix of shape"):
        matrix_norms(streamed)


@settings(max_examples=40)
@given(
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8),
    st.integers(65, 120),
    st.integers(65, 120),
    st.integers(0, 99),
    st.sampled_from([1e-2, 1e-4]),
)
def test_any_low_rank_matrix(some: list[float], m: int, n: int, seed: int, tolerance: float) -> None:
    """Given any few singular values over a faint rest, when norms are taken, then they keep their promise."""
    sigma = np.r_[np.sort(some)[::-1] + 0.1, np.full(20, 0.01)]
    whole = built(sigma, m, n, seed).astype(np.float32)
    upright(matrix_norms(Streamed(whole), tolerance=tolerance, seed=seed), whole, tolerance)
