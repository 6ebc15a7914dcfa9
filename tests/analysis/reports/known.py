"""Adapters whose singular values are known, since each factor has one number in a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.analysis.adapters.files import PREFIX, Tensor, adapter, floats

WIDTH = 16


def factors(sigma: Sequence[float], *, scaling: float = 2.0, width: int = WIDTH) -> tuple[Tensor, Tensor]:
    """lora_A and lora_B whose product, scaled, has these singular values."""
    r = len(sigma)
    a = [0.0] * (r * width)
    b = [0.0] * (width * r)
    for place, value in enumerate(sigma):
        a[place * width + place] = value / scaling
        b[place * r + place] = 1.0
    return floats((r, width), a), floats((width, r), b)


def modules(spectra: Mapping[str, Sequence[float]]) -> dict[str, Tensor]:
    """Tensors of `{layer}.{projection}` → singular values."""
    found: dict[str, Tensor] = {}
    for name, sigma in spectra.items():
        a, b = factors(sigma)
        found[f"{PREFIX}.{name}.lora_A.weight"] = a
        found[f"{PREFIX}.{name}.lora_B.weight"] = b
    return found


def falling(layers: int = 6, r: int = 8) -> dict[str, list[float]]:
    """Attention and MLP of several layers: later layers hold more energy, and layer 2 has one strong direction."""
    spectra: dict[str, list[float]] = {}
    for layer in range(layers):
        for place, projection in enumerate(("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")):
            decay = 0.3 if layer == 2 else 0.6 + 0.05 * place
            spectra[f"{layer}.{projection}"] = [(1 + layer / layers) * decay**rank for rank in range(r)]
    return spectra


def known(folder: Path, spectra: Mapping[str, Sequence[float]] | None = None, **config: Any) -> Path:
    """The folder of such an adapter; of all modules one rank, which its config says."""
    spectra = falling() if spectra is None else spectra
    r = len(next(iter(spectra.values())))
    usual = {"r": r, "lora_alpha": 2 * r, "target_modules": ["q_proj", "v_proj", "down_proj"]}
    return adapter(folder, modules(spectra), **{**usual, **config})
