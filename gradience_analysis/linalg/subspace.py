"""How much the updates of two adapters overlap, in subspaces and in direction, beside what chance gives.

Two ways. The fast one needs the Gram matrices of the factors alone, within each adapter and across the two, and small
problems of size r. It says when those have lost the digits of the directions asked for, and QR of all factors is then
taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gradience_analysis.linalg.ranks import energy_rank, numerical_rank
from gradience_analysis.linalg.spectrum import Factor, FloatArray, check_pair, product_svd

_PIECE = 65_536
"""Elements that are widened to float64 at a time: 512 KB, which stay in a core's cache between widening and product."""
_LEAST_GAP = 1e-6
"""Smallest gap behind the squared singular values asked for, as a share of the size that rounding in the Gram matrices
is relative to. Of 30,000 pairs of condition up to 1e8, no φ that passed it was further than 1e-9 from that of QR."""
_SMALLEST_SQUARE = 1e-280
"""A square below this (and above 0) has lost digits to underflow."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two updates of one weight matrix (m, n), compared.

    Attributes:
        left: φ of the left singular subspaces (outputs), 0 orthogonal .. 1 one contains the other.
        right: φ of the right ones (inputs), 0..1.
        left_baseline: Expected φ of random subspaces of these dimensions, max(i, j)/m.
        right_baseline: The same on the right, max(i, j)/n.
        direction: Cosine ⟨Δ₁, Δ₂⟩_F / (‖Δ₁‖_F ‖Δ₂‖_F), -1..1: the sign says reinforcing or cancelling.
        direction_baseline: Its standard deviation for random directions (mean 0), 1/√(mn).
        magnitude_ratio: ‖Δ₁‖_F / ‖Δ₂‖_F; infinite when only the second is 0.
        rank_a: Dimension i of the first subspace.
        rank_b: Dimension j of the second.
    """

    left: float
    right: float
    left_baseline: float
    right_baseline: float
    direction: float
    direction_baseline: float
    magnitude_ratio: float
    rank_a: int
    rank_b: int


def overlap(
    a1: Factor,
    b1: Factor,
    a2: Factor,
    b2: Factor,
    *,
    scale1: float = 1.0,
    scale2: float = 1.0,
    rank1: int | None = None,
    rank2: int | None = None,
    energy: float | None = None,
) -> Overlap:
    """Compare s₁ B₁ A₁ with s₂ B₂ A₂ in O((m + n) r²), without forming either.

    φ = ‖U₁ᵀ U₂‖_F² / min(i, j) over the first i and j singular vectors: the mean squared cosine of the principal
    angles (Björck & Golub 1973; the measure of Hu et al. 2021, section 7.2). Random subspaces have φ = max(i, j)/m on
    average, which at high rank is far from 0, so a φ says something only beside its baseline.

    Args:
        a1: A₁, (r₁, n).
        b1: B₁, (m, r₁).
        a2: A₂, (r₂, n).
        b2: B₂, (m, r₂).
        scale1: s₁.
        scale2: s₂.
        rank1: Number of leading singular vectors of the first; the numerical rank when not given, and never more.
        rank2: The same of the second.
        energy: Share of Σσ², above 0 and at most 1: without a rank, the fewest singular vectors that hold it are taken.

    Returns:
        The comparison. An update that is 0 has no subspace: its rank is 0, and left, right, direction and both subspace
        baselines are NaN.

    Raises:
        ValueError: The pairs have different (m, n), one is no LoRA pair, a factor or scale is not finite, a rank is
            below 1, or the energy is no share.
        OverflowError: A singular value is larger than a double can be.
    """
    asked = _Asked(rank1, energy), _Asked(rank2, energy)
    _check(a1, b1, a2, b2, scales=(scale1, scale2), asked=asked)
    m, n = b1.shape[0], a1.shape[1]
    found = _by_grams(a1, b1, a2, b2, asked) or _by_qr(a1, b1, a2, b2, asked)
    rank_a = found.u.shape[0] if scale1 else 0
    rank_b = found.u.shape[1] if scale2 else 0
    norm1, norm2 = found.norm1 * abs(scale1), found.norm2 * abs(scale2)
    both = rank_a > 0 and rank_b > 0
    baseline = float(max(rank_a, rank_b)) if both else math.nan
    sign = math.copysign(1.0, scale1) * math.copysign(1.0, scale2)
    return Overlap(
        left=_phi(found.u[:rank_a, :rank_b]),
        right=_phi(found.v[:rank_a, :rank_b]),
        left_baseline=baseline / m,
        right_baseline=baseline / n,
        direction=found.direction * sign if both else math.nan,
        direction_baseline=1 / math.sqrt(m * n),
        magnitude_ratio=norm1 / norm2 if norm2 else (math.inf if norm1 else math.nan),
        rank_a=rank_a,
        rank_b=rank_b,
    )


class _Asked(NamedTuple):
    """The singular vectors asked for of one update: a number, those that hold a share of the energy, or all."""

    rank: int | None
    energy: float | None

    def of(self, sigma: FloatArray) -> int:
        if self.rank is not None:
            return min(self.rank, sigma.size)
        return sigma.size if self.energy is None else energy_rank(sigma, self.energy)


class _Crossed(NamedTuple):
    """Two updates without their scales: cosines between the singular vectors asked for, and what both are as wholes."""

    u: FloatArray
    v: FloatArray
    norm1: float
    norm2: float
    direction: float


class _Leading(NamedTuple):
    """Leading singular vectors in terms of the factors, U = B left and V = Aᵀ right, and the norm of the update."""

    left: FloatArray
    right: FloatArray
    norm: float


def _check(
    a1: Factor, b1: Factor, a2: Factor, b2: Factor, *, scales: tuple[float, float], asked: tuple[_Asked, _Asked]
) -> None:
    """Refuse what cannot be compared; that entries are finite shows later."""
    for rank, energy in asked:
        if rank is not None and rank < 1:
            raise ValueError(f"rank {rank}: a subspace has dimension 1 or more")
        if energy is not None and not 0 < energy <= 1:
            raise ValueError(f"energy {energy} is not a share above 0 and at most 1")
    if not all(math.isfinite(scale) for scale in scales):
        raise ValueError(f"scales {scales[0]} and {scales[1]} are not both finite")
    check_pair(a1, b1)
    check_pair(a2, b2)
    shape1, shape2 = (b1.shape[0], a1.shape[1]), (b2.shape[0], a2.shape[1])
    if shape1 != shape2:
        raise ValueError(f"updates of shape {shape1} and {shape2} do not compare")


def _by_grams(a1: Factor, b1: Factor, a2: Factor, b2: Factor, asked: tuple[_Asked, _Asked]) -> _Crossed | None:
    """U₁ᵀU₂ = C₁ᵀ (B₁ᵀB₂) C₂ and V₁ᵀV₂ = D₁ᵀ (A₁A₂ᵀ) D₂ with U = B C, V = Aᵀ D; None where digits are lost."""
    r = a1.shape[0]
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        a, b = _joint_gram(a1.T, a2.T), _joint_gram(b1, b2)
        if not _sound(a, b, wide=np.float64 in {factor.dtype.type for factor in (a1, b1, a2, b2)}):
            return None
        first = _leading(a[:r, :r], b[:r, :r], asked[0])
        second = _leading(a[r:, r:], b[r:, r:], asked[1])
    if first is None or second is None:
        return None
    a, b = a[:r, r:], b[:r, r:]
    direction = math.nan
    if first.norm and second.norm:
        direction = float((a * b).sum()) / (first.norm * second.norm)
    return _Crossed(
        u=first.left.T @ b @ second.left,
        v=first.right.T @ a @ second.right,
        norm1=first.norm,
        norm2=second.norm,
        direction=direction,
    )


def _joint_gram(one: Factor, other: Factor) -> FloatArray:
    """Mᵀ M of M = [one, other], in float64, over pieces of its rows: both Gram matrices and the one across, at once."""
    rows, r = one.shape
    width = r + other.shape[1]
    total = np.zeros((width, width))
    step = min(max(1, _PIECE // width), rows)
    # In the order of the factors in memory: lora_A comes transposed.
    piece = np.empty((step, width), order="C" if one.flags.c_contiguous else "F")
    for first in range(0, rows, step):
        part = piece[: min(step, rows - first)]
        part[:, :r] = one[first : first + step]
        part[:, r:] = other[first : first + step]
        total += part.T @ part
    return total


def _sound(a: FloatArray, b: FloatArray, *, wide: bool) -> bool:
    """Whether no square has left the range of a double; those of float32 entries never do."""
    squares = np.concatenate([np.diagonal(a), np.diagonal(b)])
    if not np.isfinite(squares).all():
        return False
    return not wide or bool((squares >= _SMALLEST_SQUARE).all())


def _leading(gram_a: FloatArray, gram_b: FloatArray, asked: _Asked) -> _Leading | None:
    """The singular vectors asked for from A Aᵀ and Bᵀ B; None where these do not tell them.

    With the norms D of the rows of A moved over to B, A Aᵀ = H has a unit diagonal and H = L Lᵀ. The right singular
    vectors are those of the eigenproblem Lᵀ (D Bᵀ B D) L = Y Λ Yᵀ, of the squares of the singular values. Rounding in
    the Gram matrices is relative to t = trace(D Bᵀ B D), and turns the subspace of the first k by about
    ε t / (λ_k - λ_(k+1)) (Davis & Kahan 1970): values below those asked for may well be lost.
    """
    d = np.sqrt(np.diagonal(gram_a))
    divisor = np.where(d > 0, d, 1.0)
    h = gram_a / divisor[:, None] / divisor
    np.fill_diagonal(h, 1.0)
    moved = gram_b * d[:, None] * d
    t = float(np.trace(moved))
    if not ((d > 0) & (np.diagonal(gram_b) > 0)).any():
        nothing = np.zeros((d.size, 0))
        return _Leading(nothing, nothing, 0.0)
    if not _SMALLEST_SQUARE <= t < math.inf:
        return None
    try:
        root = np.linalg.cholesky(h)
    except np.linalg.LinAlgError:
        return None
    values, vectors = np.linalg.eigh(root.T @ moved @ root)
    squares = np.append(values[::-1].clip(0.0), 0.0)
    sigma: FloatArray = np.sqrt(squares)
    k = asked.of(sigma[:-1])
    if not (k and squares[k - 1] - squares[k] > _LEAST_GAP * t):
        return None
    left = root @ vectors[:, ::-1][:, :k] / sigma[:k]
    right = moved @ left / sigma[:k]
    return _Leading(d[:, None] * left, right / divisor[:, None], float(np.linalg.norm(sigma)))


def _by_qr(a1: Factor, b1: Factor, a2: Factor, b2: Factor, asked: tuple[_Asked, _Asked]) -> _Crossed:
    """The same from orthonormal bases of all factors, right to about 1e-16 of ‖B‖ ‖A‖."""
    first, second = product_svd(a1, b1), product_svd(a2, b2)
    if not (np.isfinite(first.sigma).all() and np.isfinite(second.sigma).all()):
        raise OverflowError("a singular value is larger than a double can be")
    i, j = (min(one.of(svd.sigma), numerical_rank(svd.sigma)) for one, svd in zip(asked, (first, second), strict=True))
    u, v = first.u.T @ second.u, first.v.T @ second.v
    norm1, norm2 = _norm(first.sigma), _norm(second.sigma)
    direction = math.nan
    if norm1 and norm2:
        direction = float((first.sigma / norm1) @ (u * v) @ (second.sigma / norm2))
    return _Crossed(u=u[:i, :j], v=v[:i, :j], norm1=norm1, norm2=norm2, direction=direction)


def _norm(sigma: FloatArray) -> float:
    """Of values that may be so small or large that their squares leave the range of a double."""
    return float(sigma[0]) * float(np.linalg.norm(sigma / sigma[0])) if sigma[0] else 0.0


def _phi(cosines: FloatArray) -> float:
    return float(np.square(cosines).sum()) / min(cosines.shape) if cosines.size else math.nan
