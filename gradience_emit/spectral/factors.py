"""Singular values of scaling · B A for many adapters at once, from the r x r Gram matrices of the factors.

On the device only the Gram matrices A Aᵀ and Bᵀ B are formed, in float64; the m x n update never is. They come to the
host together, in one transfer for each device, and the linear algebra of r x r matrices is done there: sharing out
matrices of 16 x 16 to a GPU would make it wait more often than it computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from gradience_emit.spectral.targets import Factors

__all__ = ["Spectra", "gram_parts", "spectra_of"]

_linalg: Any = torch.linalg  # its functions have no types

_CHUNK: Final = {"cpu": 1 << 18, "other": 1 << 21}
"""Elements that are widened to float64 at a time: 2 MiB, which stay in a cache, or 16 MiB of a device's memory."""
_MAX_INVERSE_TRACE: Final = 1e8
"""Largest trace of the inverse of a unit-diagonal Gram matrix whose singular values are still certain."""
_SMALLEST_SQUARE: Final = 1e-280
"""A squared row norm below this (and above 0) has lost digits to underflow."""


@dataclass(frozen=True, slots=True)
class Spectra:
    """What `spectra_of` found.

    Attributes:
        values: for each pair its r singular values, descending, float64; None where a factor is not finite.
        recomputed: how many were taken by QR.
    """

    values: list[list[float] | None]
    recomputed: int


def gram_parts(items: Sequence[Factors]) -> list[torch.Tensor]:
    """The Gram matrices A Aᵀ and Bᵀ B of each pair, flat, in float64, on the factors' own devices.

    Only enqueues work; nothing waits for a device. Factors of one shape are stacked and multiplied together, as many at
    a time as a bounded copy in float64 holds.

    Returns:
        For each pair one tensor of 2 r² elements.
    """
    a = _grams([item.a for item in items])
    b = _grams([item.b.T for item in items])
    return [torch.cat((one.reshape(-1), other.reshape(-1))) for one, other in zip(a, b, strict=True)]


def _grams(rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """M Mᵀ of each (r, k), in the order given."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for place, matrix in enumerate(rows):
        # Transposed factors are grouped apart: a stack of them is laid out as they are.
        alike.setdefault((matrix.shape, matrix.dtype, matrix.device, matrix.is_contiguous()), []).append(place)
    found: list[torch.Tensor] = [torch.empty(0)] * len(rows)
    for places in alike.values():
        first = rows[places[0]]
        limit = _CHUNK.get(first.device.type, _CHUNK["other"])
        at_once = max(1, limit // first.numel())
        for start in range(0, len(places), at_once):
            chunk = places[start : start + at_once]
            for place, gram in zip(chunk, _gram_stack([rows[p] for p in chunk]), strict=True):
                found[place] = gram
    return found


def _gram_stack(matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    """M Mᵀ of equal (r, k), as (count, r, r)."""
    if len(matrices) == 1:
        wide = matrices[0].to(torch.float64)
        return (wide @ wide.T).unsqueeze(0)
    stack = torch.stack(list(matrices)).to(torch.float64)
    return torch.bmm(stack, stack.mT)


def spectra_of(items: Sequence[Factors], flat: Sequence[torch.Tensor]) -> Spectra:
    """Singular values of scaling · B A from the Gram matrices, and by QR where those have lost digits.

    With the norms of the rows of A and of the columns of B taken out, A Aᵀ = D H D with a unit diagonal in H, and B A
    has the singular values of the core Kᵀ D_b D_a L, where L Lᵀ = H_a and K Kᵀ = H_b. Rounding in H of size ε changes
    every singular value by at most a share ε / λ_min(H), and 1 / λ_min(H) ≤ trace(H⁻¹) (Eisenstat & Ipsen 1995). Where
    that trace is at most 1e8 for both factors, values are right to about 1e-8; else, and where H is singular (r above
    a side of the matrix, rows alike), the pair is measured by QR, which reads its factors once more.

    Args:
        items: the pairs.
        flat: for each what `gram_parts` gave, on the host.
    """
    values: list[list[float] | None] = [None] * len(items)
    by_rank: dict[int, list[int]] = {}
    for place, item in enumerate(items):
        by_rank.setdefault(item.a.shape[0], []).append(place)
    again: list[int] = []
    for rank, places in by_rank.items():
        grams: Any = torch.stack([flat[place] for place in places]).reshape(len(places), 2, rank, rank)
        scales = torch.tensor([abs(items[place].scaling) for place in places], dtype=torch.float64)
        found, finite, certain = _from_grams(grams, scales)
        for place, row, is_finite, is_certain in zip(places, found, finite, certain, strict=True):
            if is_finite:
                values[place] = row
                again += [] if is_certain else [place]
    for place in again:
        values[place] = _by_qr(items[place])
    return Spectra(values, len(again))


def _from_grams(grams: Any, scales: torch.Tensor) -> tuple[list[list[float]], list[bool], list[bool]]:
    """The r values of each pair, whether each pair is finite, and whether its values are certain."""
    finite: Any = grams.isfinite().flatten(1).all(1) & scales.isfinite()
    grams = torch.where(finite[:, None, None, None], grams, torch.zeros_like(grams))
    squares = grams.diagonal(dim1=-2, dim2=-1)
    norms = squares.sqrt()
    divisor = torch.where(norms > 0, norms, torch.ones_like(norms))
    h = grams / divisor[..., :, None] / divisor[..., None, :]
    h.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    roots, info = _linalg.cholesky_ex(h)
    failed = info != 0
    identity: Any = torch.eye(h.shape[-1], dtype=h.dtype)
    roots = torch.where(failed[..., None, None], identity, roots)
    inverse = _linalg.solve_triangular(roots, identity.expand_as(roots), upper=False)
    lost = ((squares > 0) & (squares < _SMALLEST_SQUARE)).any(-1)
    certain = ~failed & ~lost & (inverse.square().sum((-2, -1)) <= _MAX_INVERSE_TRACE)
    weights = torch.where(finite, scales, torch.zeros_like(scales))[:, None] * norms[:, 0] * norms[:, 1]
    core = roots[:, 1].mT @ (weights[:, :, None] * roots[:, 0])
    values = _linalg.svdvals(core)
    return values.tolist(), finite.tolist(), certain.all(-1).tolist()


def _by_qr(item: Factors) -> list[float] | None:
    """Values of one finite pair by QR of both factors in float64, on the host; zeros beyond min(m, n)."""
    a, scale_a = _scaled(item.a)
    b, scale_b = _scaled(item.b)
    core = _linalg.qr(b, mode="r").R @ _linalg.qr(a.T, mode="r").R.T
    found: list[float] = (_linalg.svdvals(core) * (abs(item.scaling) * scale_a * scale_b)).tolist()
    return found + [0.0] * (item.a.shape[0] - len(found))


def _scaled(factor: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The factor in float64 on the host over its largest entry, and that entry: no square leaves the range."""
    wide = factor.to("cpu", torch.float64)
    largest = float(wide.abs().max())
    return (wide / largest, largest) if largest > 0 else (wide, 1.0)
