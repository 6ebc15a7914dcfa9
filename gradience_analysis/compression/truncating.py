"""Cutting products to a lower rank from their factors, and the size of a difference of two products.

Never by the dense product. Where the Gram matrices of the factors are well conditioned, the new factors are small
combinations of the old ones and cost two thin products; elsewhere they are made by QR (`linalg.truncate`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.audit.ranks import Factors
from gradience_analysis.compression.layers import Layer
from gradience_analysis.compression.originals import AdapterTensors, Pair
from gradience_analysis.errors import InputError
from gradience_analysis.linalg import Grams, energy_tail, exact_spectrum, grams, spectra, truncate

FloatArray = NDArray[np.float64]

_RESOLUTION = 1e-9
"""Share of the sum of magnitudes below which a norm from Gram matrices has lost its digits to cancellation."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One product of a layer as numbers.

    Attributes:
        factors: Its singular values with the scaling, and what a rank policy looks at besides.
        gram: Gram matrices of its factors; None where they are too near singular to cut by.
    """

    factors: Factors
    gram: Grams | None

    @property
    def frobenius(self) -> float:
        """‖s B A‖_F."""
        return float(energy_tail(self.factors.sigma)[0])

    def error_at(self, rank: int) -> float:
        """Frobenius error of the best approximation of this rank: sqrt of the sum of the squares that are cut off."""
        return float(energy_tail(self.factors.sigma)[min(rank, self.factors.r)])


def measure_layers(path: str, tensors: AdapterTensors, layers: Iterable[Layer]) -> list[tuple[Measured, ...]]:
    """The singular values of every product of every layer, in one pass over the factors.

    Raises:
        InputError: A factor holds a value that is NaN or infinite.
    """
    places: list[tuple[Layer, int, tuple[int, int]]] = []
    found: list[Grams] = []
    for layer in layers:
        for part, (a, b) in enumerate(tensors.pairs(layer)):
            places.append((layer, part, (b.shape[0], a.shape[1])))
            found.append(grams(a, b))
    measured: list[list[Measured]] = []
    for (layer, part, shape), gram, spectrum in zip(places, found, spectra(found), strict=True):
        if part == 0:
            measured.append([])
        # The squares of float64 values may have left the range of a double.
        certain = spectrum.certain and "F64" not in {layer.a.dtype, layer.b.dtype}
        if certain and not np.isnan(spectrum.values).any():
            sigma = spectrum.values
            norms = [math.sqrt(max(float(np.trace(one)), 0.0)) for one in (gram.a, gram.b)]
        else:
            certain = False
            sigma, norms = _exactly(path, layer, tensors.pairs(layer)[part])
        factors = Factors(sigma * abs(layer.scaling), layer.part_r, shape, norms[0], norms[1], abs(layer.scaling))
        measured[-1].append(Measured(factors, gram if certain else None))
    return [tuple(one) for one in measured]


def _exactly(path: str, layer: Layer, pair: Pair) -> tuple[FloatArray, list[float]]:
    """Singular values by QR, and the norms of the factors."""
    sigma = exact_spectrum(*pair)
    if np.isnan(sigma).any():
        raise InputError(
            path,
            f"holds values that are NaN or infinite in {shown(layer.name)}.",
            "Take an earlier checkpoint: what it computes is lost.",
        )
    with np.errstate(over="ignore"):
        return sigma, [float(np.linalg.norm(factor.astype(np.float64))) for factor in pair]


def cut(pair: Pair, gram: Grams | None, rank: int, scaling: float) -> tuple[FloatArray, FloatArray]:
    """Factors of the best approximation of s B A by a matrix of this rank, with s folded in and balanced.

    With A = D L Qᵀ (D the norms of its rows, L the Cholesky factor of its Gram matrix over them, Q orthonormal) and B
    likewise, the singular vectors of B A follow from those of the core of r rows and columns and from the factors.

    Args:
        pair: (lora_A (r, n), lora_B (m, r)).
        gram: Their Gram matrices; None to go by QR.
        rank: The new rank, at most r.
        scaling: s.

    Returns:
        lora_A (rank, n) and lora_B (m, rank) in float64.
    """
    if gram is None or rank > min(pair[1].shape[0], pair[0].shape[1]) or not scaling:
        return _padded(pair, rank, scaling)
    d_a, divisor_a, root_a = _root(gram.a)
    d_b, divisor_b, root_b = _root(gram.b)
    u, sigma, vt = np.linalg.svd(root_b.T @ ((d_b * d_a)[:, None] * root_a))
    sizes = np.sqrt(sigma[:rank] * abs(scaling))
    # new A = sqrt(S) Vᵀ L⁻¹ D⁻¹ A; new B = B D⁻¹ L⁻ᵀ U sqrt(S).
    left = np.linalg.solve(root_a.T, vt[:rank].T).T * sizes[:, None] / divisor_a
    right = np.linalg.solve(root_b.T, u[:, :rank]) * (sizes * math.copysign(1.0, scaling)) / divisor_b[:, None]
    return left @ pair[0].astype(np.float64), pair[1].astype(np.float64) @ right


def difference(old: Pair, old_scaling: float, new: Pair, new_scaling: float) -> float:
    """Frobenius norm of s₁ B₁ A₁ - s₂ B₂ A₂ without a dense product: that of [s₁ B₁, -s₂ B₂] [A₁; A₂].

    From the Gram matrices of the stacked factors; where the difference is too small for that, by QR.
    """
    a = np.concatenate([old[0].astype(np.float64), new[0].astype(np.float64)])
    b = np.concatenate([old[1].astype(np.float64) * old_scaling, new[1].astype(np.float64) * -new_scaling], axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        # ‖B A‖² = trace(Aᵀ Bᵀ B A) = sum of (A Aᵀ) ∘ (Bᵀ B).
        products = (a @ a.T) * (b.T @ b)
        square, size = float(products.sum()), float(np.abs(products).sum())
    if math.isfinite(size) and square > size * _RESOLUTION:
        return math.sqrt(square)
    return float(energy_tail(exact_spectrum(a, b))[0])


def _padded(pair: Pair, rank: int, scaling: float) -> tuple[FloatArray, FloatArray]:
    """By QR; ranks beyond those that the product can have are zeros."""
    found = truncate(*pair, rank=rank, scaling=scaling)
    if found.kept == rank:
        return found.lora_a, found.lora_b
    a: FloatArray = np.zeros((rank, found.lora_a.shape[1]))
    b: FloatArray = np.zeros((found.lora_b.shape[0], rank))
    a[: found.kept], b[:, : found.kept] = found.lora_a, found.lora_b
    return a, b


def _root(gram: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """D and L with G = D L Lᵀ D and a unit diagonal in L Lᵀ, and D with 1 for its zeros, to divide by."""
    d: FloatArray = np.sqrt(np.diagonal(gram))
    divisor: FloatArray = np.where(d > 0, d, 1.0)
    unit: FloatArray = gram / divisor[:, None] / divisor[None, :]
    np.fill_diagonal(unit, 1.0)
    root: FloatArray = np.asarray(np.linalg.cholesky(unit), dtype=np.float64)
    return d, divisor, root
