"""The best approximation of a LoRA update by one of lower rank, in factored form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradience_analysis.linalg.ranks import energy_tail
from gradience_analysis.linalg.spectrum import Factor, product_svd

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Truncated:
    """A pair of factors of lower rank with the scaling folded in.

    Attributes:
        lora_a: (kept, n), float64.
        lora_b: (m, kept), float64; lora_b @ lora_a is the best rank-`kept` approximation of s B A.
        sigma: All r singular values of s B A, descending.
        kept: Rank of the new pair.
        error: ‖s B A - lora_b lora_a‖_F = sqrt(Σ_{i>kept} σ²), in the unit of the weights.
    """

    lora_a: FloatArray
    lora_b: FloatArray
    sigma: FloatArray
    kept: int
    error: float


def truncate(lora_a: Factor, lora_b: Factor, *, rank: int, scaling: float = 1.0) -> Truncated:
    """Factors of the best approximation of delta_w = s B A by a matrix of this rank (Eckart & Young 1936).

    By QR of both factors and an SVD of the r x r core, never by the dense product. The new factors are balanced:
    lora_a lora_aᵀ = lora_bᵀ lora_b = diag(sigma), and their product needs no scaling (alpha = r).

    Args:
        lora_a: A, (r, n).
        lora_b: B, (m, r).
        rank: Wanted rank; r or more (min(m, n) or more) loses nothing, and no more than those are kept.
        scaling: s, of either sign; 0 gives zero factors.

    Returns:
        The new pair. delta_w = 0 gives a pair of zeros with error 0.

    Raises:
        ValueError: `rank` below 1, `scaling` not finite, not a LoRA pair, or entries that are NaN or infinite.
    """
    if rank < 1:
        raise ValueError(f"rank = {rank}: a LoRA pair has rank 1 or more")
    if not np.isfinite(scaling):
        raise ValueError(f"scaling = {scaling} is not finite")
    svd = product_svd(lora_a, lora_b)
    kept = min(rank, svd.sigma.size)
    sigma = np.zeros(lora_a.shape[0])
    sigma[: svd.sigma.size] = svd.sigma * abs(scaling)
    roots = np.sqrt(sigma[:kept])
    return Truncated(
        lora_a=np.ascontiguousarray((svd.v[:, :kept] * roots).T),
        lora_b=svd.u[:, :kept] * (roots * np.copysign(1.0, scaling)),
        sigma=sigma,
        kept=kept,
        error=float(energy_tail(sigma)[kept]),
    )
