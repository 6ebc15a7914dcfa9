"""Singular values of a low-rank product B A from its factors, without forming the m x n matrix.

Two ways. The fast one takes the r x r Gram matrices of the factors, scaled to unit diagonal, factors them by
Cholesky and takes the SVD of the r x r core. The exact one takes QR of both factors. The fast one says when it
cannot hold its accuracy, and the exact one is then to be taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Factor = NDArray[np.floating[Any]]

_PIECE = 16_384
"""Elements that are widened to float64 at a time: 128 KB, which stay in cache, and which malloc does not map anew."""
_BATCH_BYTES = 4 << 20
"""Bytes of stacked r x r cores that are factored in one call."""
_MAX_INVERSE_TRACE = 1e8
"""Largest trace of the inverse of a unit-diagonal Gram matrix that is still certain: see `spectra`."""
_SMALLEST_SQUARE = 1e-280
"""A squared row norm below this (and above 0) has lost digits to underflow."""


@dataclass(frozen=True, slots=True)
class Grams:
    """The Gram matrices of a LoRA pair, which hold all that its singular values need.

    Attributes:
        a: A Aᵀ, (r, r), float64; its trace is ‖A‖_F².
        b: Bᵀ B, (r, r), float64; its trace is ‖B‖_F².
    """

    a: FloatArray
    b: FloatArray


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Singular values of B A.

    Attributes:
        values: Descending, float64, length r, ≥ 0; zeros fill up where the rank is below r, also for r > min(m, n).
        certain: False when a factor is so near rank deficiency that its Gram matrix has lost the small values:
            `values` then errs by up to about 1e-8 of the largest one, and `exact_spectrum` is to be taken.
    """

    values: FloatArray
    certain: bool


class ProductSVD(NamedTuple):
    """Thin singular value decomposition of B A, u @ diag(sigma) @ v.T, with k = min(r, m, n).

    Attributes:
        u: (m, k), orthonormal columns.
        sigma: (k,), descending.
        v: (n, k), orthonormal columns.
    """

    u: FloatArray
    sigma: FloatArray
    v: FloatArray


def grams(lora_a: Factor, lora_b: Factor) -> Grams:
    """Gram matrices A Aᵀ and Bᵀ B in float64, whatever the precision of the factors.

    The factors are widened piece by piece, so that no float64 copy of a whole one exists.

    Args:
        lora_a: A, (r, n). Entries of float64 input have to lie within 1e-140..1e140 in magnitude or be 0 (every
            float32 value does), or their squares leave the range of a double: `product_spectrum` takes any.
        lora_b: B, (m, r).

    Returns:
        Both matrices; NaN or infinite where the input is.

    Raises:
        ValueError: Not two matrices with the same r, or one without entries.
    """
    check_pair(lora_a, lora_b)
    with np.errstate(invalid="ignore", over="ignore"):
        return Grams(a=_gram_of_columns(lora_a.T), b=_gram_of_columns(lora_b))


def spectra(items: Sequence[Grams]) -> list[Spectrum]:
    """Singular values of many products B A from their Gram matrices, factored in batches of equal r.

    With the norms of the rows of A and of the columns of B taken out, A Aᵀ = D H D with a unit diagonal in H,
    and B A has the singular values of the core Kᵀ D_b D_a L, where L Lᵀ = H_a and K Kᵀ = H_b. Rounding in H of size ε
    changes every singular value, however small, by at most a share ε/λ_min(H) (Eisenstat & Ipsen 1995, relative
    perturbation), and 1/λ_min(H) ≤ trace(H⁻¹). A result is certain while trace(H⁻¹) ≤ 1e8 for both factors. The core's
    SVD adds about 1e-16 of the largest value to each, as the exact way does too.

    Args:
        items: Gram matrices, of any mix of ranks.

    Returns:
        One spectrum for each, in order. Gram matrices that are not finite give NaN values, and certain True, since the
        exact way cannot say more of factors that hold NaN or infinity.
    """
    results: list[Spectrum | None] = [None] * len(items)
    ranks: dict[int, list[int]] = {}
    for place, item in enumerate(items):
        ranks.setdefault(item.a.shape[0], []).append(place)
    for r, places in ranks.items():
        size = max(1, _BATCH_BYTES // (8 * r * r))
        for first in range(0, len(places), size):
            batch = places[first : first + size]
            for place, result in zip(batch, _batch_spectra([items[place] for place in batch]), strict=True):
                results[place] = result
    return [result for result in results if result is not None]


def exact_spectrum(lora_a: Factor, lora_b: Factor) -> FloatArray:
    """Singular values of B A by QR of both factors in float64 and an SVD of the r x r core R_b R_aᵀ.

    Each value is right to about 1e-16 of ‖R_b‖ ‖R_a‖: a share of 1e-6 or better down to 1e-10 of the largest one.

    Args:
        lora_a: A, (r, n), finite; entries of any scale.
        lora_b: B, (m, r), finite.

    Returns:
        (r,), descending, zeros beyond min(m, n); all NaN when an entry is NaN or infinite.

    Raises:
        ValueError: Not two matrices with the same r, or one without entries.
    """
    check_pair(lora_a, lora_b)
    values = np.zeros(lora_a.shape[0])
    a, b, exponent = _scaled(lora_a, lora_b)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        values[:] = math.nan
        return values
    found = np.linalg.svd(_r_of_qr(b) @ _r_of_qr(a.T).T, compute_uv=False)
    values[: found.size] = _unscaled(found, exponent)
    return values


def product_spectrum(lora_a: Factor, lora_b: Factor) -> FloatArray:
    """Singular values of B A: from the Gram matrices, and by QR where those are not certain.

    Args:
        lora_a: A, (r, n).
        lora_b: B, (m, r).

    Returns:
        (r,), descending, zeros where the rank is below r; all NaN when an entry is NaN or infinite.

    Raises:
        ValueError: Not two matrices with the same r, or one without entries.
    """
    pair = grams(lora_a, lora_b)
    (found,) = spectra([pair])
    wide = np.float64 in {lora_a.dtype.type, lora_b.dtype.type}
    # Squares of float64 entries may have left the range of a double: 0 or NaN then says nothing.
    if found.certain and not (wide and not (found.values > 0).all()):
        return found.values
    return exact_spectrum(lora_a, lora_b)


def product_svd(lora_a: Factor, lora_b: Factor) -> ProductSVD:
    """Singular vectors and values of B A by QR of both factors in float64, in O((m + n) r²).

    Args:
        lora_a: A, (r, n).
        lora_b: B, (m, r).

    Returns:
        The thin decomposition with k = min(r, m, n).

    Raises:
        ValueError: Not two matrices with the same r, one without entries, or an entry that is NaN or infinite.
    """
    check_pair(lora_a, lora_b)
    a, b, exponent = _scaled(lora_a, lora_b)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a factor holds NaN or infinite entries")
    q_b, r_b = np.linalg.qr(b)
    q_a, r_a = np.linalg.qr(a.T)
    u, sigma, vt = np.linalg.svd(r_b @ r_a.T, full_matrices=False)
    return ProductSVD(u=q_b @ u, sigma=_unscaled(sigma, exponent), v=q_a @ vt.T)


def check_pair(lora_a: Factor, lora_b: Factor) -> None:
    """Refuse what is not a LoRA pair.

    Raises:
        ValueError: Not two real matrices (r, n) and (m, r) with the same r, or one without entries.
    """
    if lora_a.ndim != 2 or lora_b.ndim != 2 or lora_a.shape[0] != lora_b.shape[1]:
        raise ValueError(f"not a LoRA pair: lora_A {lora_a.shape}, lora_B {lora_b.shape}, wanted (r, n) and (m, r)")
    if not (lora_a.size and lora_b.size):
        raise ValueError(f"a factor without entries: lora_A {lora_a.shape}, lora_B {lora_b.shape}")


def _gram_of_columns(matrix: Factor) -> FloatArray:
    """Mᵀ M of (k, r), in float64, over pieces of its rows."""
    rows, r = matrix.shape
    total = np.zeros((r, r))
    step = max(1, _PIECE // r)
    for first in range(0, rows, step):
        piece = matrix[first : first + step].astype(np.float64)
        total += piece.T @ piece
    return total


def _batch_spectra(items: Sequence[Grams]) -> list[Spectrum]:
    """Spectra of Gram matrices of one rank."""
    a = np.stack([item.a for item in items])
    b = np.stack([item.b for item in items])
    finite = np.isfinite(a).all(axis=(1, 2)) & np.isfinite(b).all(axis=(1, 2))
    a[~finite] = 0.0
    b[~finite] = 0.0
    h_a, d_a, sound_a = _unit_diagonal(a)
    h_b, d_b, sound_b = _unit_diagonal(b)
    left, certain_b = _square_roots(h_b)
    right, certain_a = _square_roots(h_a)
    core = left.transpose(0, 2, 1) @ ((d_a * d_b)[:, :, None] * right)
    values = np.linalg.svd(core, compute_uv=False)
    values[~finite] = np.nan
    certain = (certain_a & certain_b & sound_a & sound_b) | ~finite
    return [Spectrum(values=row, certain=bool(sure)) for row, sure in zip(values, certain, strict=True)]


def _unit_diagonal(gram: FloatArray) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """H with G = D H D and a unit diagonal, the diagonal of D, and whether its squares kept their digits."""
    squares = np.einsum("nii->ni", gram)
    d = np.sqrt(squares)
    divisor = np.where(d > 0, d, 1.0)
    h = gram / divisor[:, :, None] / divisor[:, None, :]
    np.einsum("nii->ni", h)[:] = 1.0
    return h, d, ~((squares > 0) & (squares < _SMALLEST_SQUARE)).any(axis=1)


def _square_roots(h: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """L with L Lᵀ = H for each of the stack, and whether H is far enough from singular."""
    try:
        roots = np.linalg.cholesky(h).astype(np.float64, copy=False)
    except np.linalg.LinAlgError:
        return _square_roots_one_by_one(h)
    return roots, _inverse_traces(roots) <= _MAX_INVERSE_TRACE


def _square_roots_one_by_one(h: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The same when one of them is singular in double precision: that one by its eigenvalues, not certain."""
    roots = np.empty_like(h)
    certain = np.zeros(len(h), dtype=np.bool_)
    for place in range(len(h)):
        try:
            roots[place] = np.linalg.cholesky(h[place])
        except np.linalg.LinAlgError:
            eigenvalues, vectors = np.linalg.eigh(h[place])
            roots[place] = vectors * np.sqrt(np.clip(eigenvalues, 0.0, None))
        else:
            certain[place] = _inverse_traces(roots[place : place + 1])[0] <= _MAX_INVERSE_TRACE
    return roots, certain


def _inverse_traces(roots: FloatArray) -> FloatArray:
    """The trace of (L Lᵀ)⁻¹, which is the sum of squares of L⁻¹, for each L of the stack."""
    traces: FloatArray = np.square(np.linalg.inv(roots)).sum(axis=(1, 2), dtype=np.float64)
    return traces


def _scaled(lora_a: Factor, lora_b: Factor) -> tuple[FloatArray, FloatArray, int]:
    """Both factors in float64 with their largest entry in 0.5..1, and the power of two that was taken out."""
    a, exponent_a = _scaled_one(lora_a)
    b, exponent_b = _scaled_one(lora_b)
    return a, b, exponent_a + exponent_b


def _scaled_one(factor: Factor) -> tuple[FloatArray, int]:
    wide = factor.astype(np.float64)
    largest = float(np.abs(wide).max())
    if not (math.isfinite(largest) and largest > 0):
        return wide, 0
    exponent = math.frexp(largest)[1]
    return np.ldexp(wide, -exponent), exponent


def _unscaled(values: NDArray[Any], exponent: int) -> FloatArray:
    with np.errstate(over="ignore", under="ignore"):
        scaled: FloatArray = np.ldexp(values, exponent)
    return scaled


def _r_of_qr(matrix: FloatArray) -> FloatArray:
    # NumPy's annotations say that every mode gives a pair.
    return cast("FloatArray", np.linalg.qr(matrix, mode="r"))
