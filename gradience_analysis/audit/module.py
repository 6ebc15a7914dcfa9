"""What an audit found of one module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradience_analysis.adapters.factors import Layout
from gradience_analysis.audit.naming import ModuleType
from gradience_analysis.linalg.spectrum import FloatArray

if TYPE_CHECKING:
    from gradience_analysis.base_weights import BaseNorm


@dataclass(frozen=True, slots=True)
class ModuleAudit:
    """One adapted matrix: delta_w = scaling · lora_B @ lora_A, with singular values sigma_1 >= sigma_2 >= ...

    Norms are NaN where the scaling is not known; what does not depend on it (ranks, utilization) stands all the same.

    Attributes:
        name: The module, without `base_model.model.`; of an expert, with its number in brackets.
        adapter: The adapter's name, where its keys have one.
        layout: How its factors are stored.
        module_type: attn, mlp or other.
        layer: Number of its layer; None where its name has none.
        r: Rank, from the shapes of the factors.
        alpha: lora_alpha that applies to it; None where the config does not say.
        scaling: Factor of the product; None where it is not known.
        shape: (out, in) of delta_w; a convolution's is (out, in · kernel).
        params: Elements of its factors.
        sigma: Singular values of delta_w, descending, r of them; without the scaling where that is not known.
        spectral_norm: sigma_1.
        frobenius_norm: sqrt(sum sigma²).
        stable_rank: sum sigma² / sigma_1², in [1, r]; NaN for delta_w = 0.
        utilization: stable_rank / r, in (0, 1].
        effective_rank: exp(entropy of sigma / sum sigma), in [1, r] (Roy & Vetterli 2007).
        energy_ranks: Share (0.90, 0.95, 0.99) → fewest values that hold it of sum sigma²; 0 only for delta_w = 0.
        ranks: Policy → the rank that it finds, 1 to r.
        dora: Whether a magnitude vector scales the rows of W + delta_w besides, so that the factors are not all.
        true_spectral_norm, true_frobenius_norm: For DoRA with the base given, the norms of the whole change of the
            weight, diag(m / row norms of W + delta_w) (W + delta_w) - W; else None.
        base: Norms of the base weight; None where there are none.
        base_reason: Why there are none; empty when there are, or when no base was given.
    """

    name: str
    adapter: str
    layout: Layout
    module_type: ModuleType
    layer: int | None
    r: int
    alpha: float | None
    scaling: float | None
    shape: tuple[int, int]
    params: int
    sigma: FloatArray = field(repr=False)
    spectral_norm: float
    frobenius_norm: float
    stable_rank: float
    utilization: float
    effective_rank: float
    energy_ranks: Mapping[float, int]
    ranks: Mapping[str, int]
    dora: bool = False
    true_spectral_norm: float | None = None
    true_frobenius_norm: float | None = None
    base: BaseNorm | None = None
    base_reason: str = ""

    @property
    def energy(self) -> float:
        """‖delta_w‖_F², by which layers are compared."""
        return self.frobenius_norm * self.frobenius_norm  # a power would raise where this is infinite

    @property
    def udr(self) -> float | None:
        """Update dominance ratio: sigma_1 over the spectral norm of the base weight; for DoRA, of the whole change.

        None where the base's norm, or the scaling, is not known; infinite over a base of zeros.
        """
        whole = self.true_spectral_norm if self.dora else self.spectral_norm
        return _ratio(whole, None if self.base is None else self.base.spectral)

    @property
    def udr_f(self) -> float | None:
        """The same with Frobenius norms."""
        whole = self.true_frobenius_norm if self.dora else self.frobenius_norm
        return _ratio(whole, None if self.base is None else self.base.frobenius)

    @property
    def sdi(self) -> float | None:
        """log10(UDR): spectral dominance index; None without a UDR or for delta_w = 0."""
        udr = self.udr
        return math.log10(udr) if udr else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with every key always present; what is undefined or not known is null."""
        return {
            "name": self.name,
            "adapter": self.adapter,
            "layout": str(self.layout),
            "module_type": self.module_type,
            "layer": self.layer,
            "r": self.r,
            "alpha": self.alpha,
            "scaling": self.scaling,
            "shape": list(self.shape),
            "params": self.params,
            "spectral_norm": _finite(self.spectral_norm),
            "frobenius_norm": _finite(self.frobenius_norm),
            "stable_rank": _finite(self.stable_rank),
            "utilization": _finite(self.utilization),
            "effective_rank": _finite(self.effective_rank),
            **{f"energy_rank_{round(share * 100)}": rank for share, rank in self.energy_ranks.items()},
            "ranks": dict(self.ranks),
            "dora": self.dora,
            "true_spectral_norm": self.true_spectral_norm,
            "true_frobenius_norm": self.true_frobenius_norm,
            "base_spectral_norm": None if self.base is None else self.base.spectral,
            "base_frobenius_norm": None if self.base is None else self.base.frobenius,
            "base_quantization": None if self.base is None else self.base.quantization or None,
            "base_reason": self.base_reason or None,
            "udr": _finite(self.udr),
            "udr_f": _finite(self.udr_f),
            "sdi": self.sdi,
        }


def _ratio(update: float | None, base: float | None) -> float | None:
    if update is None or base is None or math.isnan(update):
        return None
    return update / base if base else math.inf if update else math.nan


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
