"""What a spectrum says about rank: several definitions side by side, none of them called the true one.

`sigma` is everywhere the descending singular values of one matrix, as float64, all ≥ 0. Every measure but
`energy_tail` stays the same when the matrix is multiplied by a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

NUMERICAL_RTOL = 1e-12
"""Share of the largest singular value below which one counts as zero: above the rounding of a float64 QR (about 1e-15
times a modest factor), below every value that a float64 factorisation can still tell (1e-10)."""
ALLOWED_RANKS: tuple[int, ...] = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Ranks that are suggested. Beyond the last one, multiples of 64."""
_BEYOND = 64
_TIE = 1e-12
"""Share by which two sums of squares may differ from rounding alone."""


def stable_rank(sigma: FloatArray) -> float:
    """Σσ² / σ₁² = ‖M‖_F² / ‖M‖₂², in [1, r]; NaN for all-zero values and for NaN (Rudelson & Vershynin 2007)."""
    shares = _relative(sigma)
    return math.nan if shares is None else float(np.square(shares).sum())


def effective_rank(sigma: FloatArray) -> float:
    """exp(-Σ p ln p) with p = σᵢ/Σσ, in [1, r]; NaN for all-zero values and for NaN (Roy & Vetterli 2007)."""
    shares = _relative(sigma)
    if shares is None:
        return math.nan
    p = shares[shares > 0] / shares.sum()
    p = p[p > 0]
    return math.exp(-float(np.dot(p, np.log(p))))


def energy_rank(sigma: FloatArray, q: float) -> int:
    """Smallest k with Σ_{i≤k} σ² ≥ q Σσ², in 1..r; 0 only for all-zero values.

    A sum that misses q by less than 1e-12 of the total counts as reaching it: ten equal values have energy rank 9
    at q = 0.9, whatever the rounding.

    Args:
        sigma: Descending singular values.
        q: Share of the energy, above 0 and at most 1.

    Raises:
        ValueError: q is out of range, or a value is NaN.
    """
    if not 0 < q <= 1:
        raise ValueError(f"q = {q} is not a share above 0 and at most 1")
    shares = _relative(sigma)
    if shares is None:
        return _rank_of_nothing(sigma)
    energy: FloatArray = np.cumsum(np.square(shares))
    return int(np.count_nonzero(energy < energy[-1] * (q - _TIE))) + 1


def energy_tail(sigma: FloatArray) -> FloatArray:
    """Frobenius error of keeping the first k values: tail[k] = sqrt(Σ_{i>k} σ²), k = 0..r, in the unit of sigma.

    By Eckart & Young (1936) no matrix of rank k comes nearer. tail[0] is the Frobenius norm, tail[r] is 0. Summed from
    the small end, so that small tails keep their digits. All NaN for NaN values.
    """
    if np.isnan(sigma).any():
        return np.full(sigma.size + 1, np.nan)
    shares = _relative(sigma)
    tail = np.zeros(sigma.size + 1)
    if shares is not None:
        tail[:-1] = np.sqrt(np.cumsum(np.square(shares)[::-1])[::-1]) * float(sigma[0])
    return tail


def numerical_rank(sigma: FloatArray, rtol: float = NUMERICAL_RTOL) -> int:
    """Number of values above `rtol` times the largest one, in 0..r; 0 only for all-zero values.

    Raises:
        ValueError: A value is NaN.
    """
    shares = _relative(sigma)
    return _rank_of_nothing(sigma) if shares is None else int(np.count_nonzero(shares > rtol))


def largest_gap_rank(sigma: FloatArray) -> int:
    """The k, from 1, whose sigma[k] / sigma[k+1] is largest of the numerically nonzero values; 0 for all-zero ones.

    Where zeros follow, the last nonzero value has the largest gap behind it, and the numerical rank comes out. Of
    equal ratios the last is taken, and values without any gap (all equal) give their number: a cut
    that nothing marks is not suggested.

    Raises:
        ValueError: A value is NaN.
    """
    nonzero = numerical_rank(sigma)
    if nonzero < sigma.size or nonzero <= 1:
        return nonzero
    ratios = sigma[:-1] / sigma[1:]
    largest = float(ratios.max())
    if largest <= 1 + 1e-9:
        return nonzero
    return int(np.flatnonzero(ratios >= largest * (1 - 1e-9))[-1]) + 1


def null_rank(
    sigma: FloatArray, *, frobenius_a: float, frobenius_b: float, scaling: float, shape: tuple[int, int], r: int
) -> int:
    """Number of singular values of delta_w above the largest one that random factors are expected to have, 0..r.

    Independent Gaussian factors with the same Frobenius norms have σ₁(A) ≈ ‖A‖_F/√(rn) (√n + √r), and B likewise
    (Davidson & Szarek 2001), so that

        edge = |s| · ‖A‖_F ‖B‖_F / r · (1 + √(r/m)) (1 + √(r/n))

    bounds σ₁ of their scaled product. Random adapters (Gaussian B, Gaussian or Kaiming-uniform A; r 1 to 64; sides 64
    to 4096; 440 of them) had σ₁ at 0.56 to 0.98 of the edge, so that none counted a value. With five directions
    planted in a noisy B of r = 64, 5 were found (4 once of eight) at 1.2 times the largest value of the noise, and 5
    always at 1.5 and above. Strong directions lift the edge themselves: k equal ones of r stand above it only while
    √(k/r) (1 + √(r/m)) (1 + √(r/n)) < 1, so that a flat spectrum gives 0, and 0 means "nothing stands out", not "rank
    0". The count depends on the factors, not on delta_w alone.

    Args:
        sigma: Descending singular values of delta_w, scaling included.
        frobenius_a: ‖A‖_F.
        frobenius_b: ‖B‖_F.
        scaling: s of delta_w = s B A.
        shape: (m, n) of delta_w.
        r: Rows of A.

    Raises:
        ValueError: A dimension below 1, or a value that is NaN.
    """
    m, n = shape
    if min(m, n, r) < 1:
        raise ValueError(f"shape {shape} with r = {r}: every dimension is at least 1")
    if np.isnan(sigma).any() or math.isnan(frobenius_a) or math.isnan(frobenius_b) or math.isnan(scaling):
        raise ValueError("NaN has no rank")
    edge = abs(scaling) * frobenius_a * frobenius_b / r * (1 + math.sqrt(r / m)) * (1 + math.sqrt(r / n))
    return int(np.count_nonzero(sigma > edge))


def percentile(values: Sequence[float] | FloatArray, q: float) -> float:
    """The value below which q percent lie, linear between neighbours (type 7 of Hyndman & Fan 1996, numpy's default).

    Args:
        values: In any order, finite: what was not measured is left out before.
        q: 0..100.

    Returns:
        The percentile; NaN of no values.

    Raises:
        ValueError: q is out of range.
    """
    if not 0 <= q <= 100:
        raise ValueError(f"q = {q} is not within 0..100")
    if not len(values):
        return math.nan
    # Not np.percentile: the first call of that imports numpy.ma, which takes as long as a small audit.
    ordered = sorted(map(float, values))
    place = (len(ordered) - 1) * (q / 100)
    below = math.floor(place)
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    part = place - below
    # From the nearer end, as numpy does it: the last bit is the same.
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)


_ROUNDING = 1e-9
"""A percentile of 128 that was computed as 128.00000000000001 is 128."""


def round_up_rank(rank: float, *, allowed: Sequence[int] = ALLOWED_RANKS, limit: int | None = None) -> int:
    """The smallest allowed rank that is not below `rank`, at least 1 and at most `limit`.

    Args:
        rank: What a measure gave, a fraction maybe.
        allowed: Ascending ranks; beyond the last one, multiples of 64.
        limit: The rank that there is now: where the next allowed one lies above it, it is the answer.

    Raises:
        ValueError: `rank` is NaN, or infinite without a limit, or `limit` is below 1.
    """
    if math.isnan(rank) or (limit is None and math.isinf(rank)) or (limit is not None and limit < 1):
        raise ValueError(f"no rank follows from {rank} with limit {limit}")
    rank -= _ROUNDING
    if limit is not None and rank >= limit:
        return limit
    for choice in allowed:
        if choice >= rank:
            break
    else:
        choice = _BEYOND * math.ceil(rank / _BEYOND)
    return choice if limit is None else min(choice, limit)


def _relative(sigma: FloatArray) -> FloatArray | None:
    """Values over the largest one, so that no square overflows or vanishes; None without one to divide by."""
    if not sigma.size or not sigma[0] > 0 or np.isnan(sigma).any():
        return None
    shares: FloatArray = np.divide(sigma, sigma[0])
    return shares


def _rank_of_nothing(sigma: FloatArray) -> int:
    if np.isnan(sigma).any():
        raise ValueError("NaN has no rank")
    return 0
