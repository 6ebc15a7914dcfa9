"""The spectrum of a saved adapter by plain numpy: what an audit records as `metrics` of kind `lora_audit`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

_ALLOWED_RANKS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)
_PLACES = {
    "attn": ("q_proj", "k_proj", "v_proj", "o_proj", "query", "key", "value", "attention"),
    "mlp": ("gate_proj", "up_proj", "down_proj", "intermediate", "output"),
}


@dataclass(frozen=True, slots=True)
class _Module:
    """One adapted module.

    Attributes:
        place: `attn`, `mlp` or `other`.
        rank: Rows of its A.
        params: Parameters of A and B.
        spectrum: Singular values of the scaled update, falling.
    """

    place: str
    rank: int
    params: int
    spectrum: Any

    @property
    def energy(self) -> Any:
        return np.cumsum(self.spectrum**2) / np.sum(self.spectrum**2)

    @property
    def stable_rank(self) -> float:
        """Sum of squares over the largest square, 1..rank; NaN for an update of zero."""
        return float(np.sum(self.spectrum**2) / self.spectrum[0] ** 2) if self.spectrum[0] > 0 else float("nan")

    @property
    def effective_rank(self) -> float:
        """Exponential of the entropy of the normalised singular values; NaN for an update of zero."""
        shares = self.spectrum[self.spectrum > 0] / np.sum(self.spectrum)
        return float(np.exp(-np.sum(shares * np.log(shares)))) if len(shares) else float("nan")

    @property
    def energy_rank_90(self) -> int:
        """Fewest singular values with nine tenths of the sum of squares; 0 for an update of zero."""
        return int(np.searchsorted(self.energy, 0.9) + 1) if self.spectrum[0] > 0 else 0


def audit(adapter: Path) -> dict[str, Any]:
    """Summarise an adapter in PEFT's format, in the keys of telemetry/v1; a plain LoRA of linear layers only."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    tensors = load_file(adapter / "adapter_model.safetensors")
    end = ".lora_A.weight"
    modules = [
        _module(name.removesuffix(end), tensors[name], tensors[name.replace("lora_A", "lora_B")], config["lora_alpha"])
        for name in sorted(tensors)
        if name.endswith(end)
    ]
    params = [module.params for module in modules]
    stable = [module.stable_rank for module in modules]
    rank = max(module.rank for module in modules)
    energy = [module.energy_rank_90 for module in modules]
    return {
        "total_lora_params": sum(params),
        **_figures(modules),
        "stable_rank_median": float(np.median(stable)),
        "stable_rank_weighted_mean": float(np.average(stable, weights=params)),
        "effective_rank_mean": float(np.mean([module.effective_rank for module in modules])),
        "by_type": {
            place: {"params": sum(module.params for module in chosen), **_figures(chosen)}
            for place in ("attn", "mlp", "other")
            if (chosen := [module for module in modules if module.place == place])
        },
        "suggested_r_global_median": _suggested(float(np.percentile(energy, 50)), rank),
        "suggested_r_global_90": _suggested(float(np.percentile(energy, 90)), rank),
        **_sizes("delta_sigma_max_scaled", [float(module.spectrum[0]) for module in modules]),
        **_sizes("delta_frob_norm_scaled", [float(np.linalg.norm(module.spectrum)) for module in modules]),
    }


def _module(name: str, a: Any, b: Any, alpha: float) -> _Module:
    rank = a.shape[0]
    update = (alpha / rank) * b.astype(np.float64) @ a.astype(np.float64)
    spectrum = np.linalg.svd(update, compute_uv=False)[:rank]
    parts = name.split(".")
    place = next((place for place, words in _PLACES.items() if set(words) & set(parts)), "other")
    return _Module(place, rank, a.size + b.size, spectrum)


def _figures(modules: Sequence[_Module]) -> dict[str, float]:
    energy = [module.energy_rank_90 for module in modules]
    return {
        "n_layers": len(modules),
        "stable_rank_mean": float(np.mean([module.stable_rank for module in modules])),
        "utilization_mean": float(np.mean([module.stable_rank / module.rank for module in modules])),
        "energy_rank_90_p50": float(np.percentile(energy, 50)),
        "energy_rank_90_p90": float(np.percentile(energy, 90)),
    }


def _suggested(wanted: float, rank: int) -> int:
    """The next allowed rank, never above the present one."""
    return min(rank, next(allowed for allowed in _ALLOWED_RANKS if allowed >= wanted))


def _sizes(name: str, values: list[float]) -> dict[str, float]:
    return {
        f"{name}_mean": float(np.mean(values)),
        f"{name}_p50": float(np.percentile(values, 50)),
        f"{name}_p90": float(np.percentile(values, 90)),
    }
