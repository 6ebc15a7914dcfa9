"""Adapters made of chosen factors, to compare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Array = NDArray[np.floating[Any]]
Factors = Mapping[str, tuple[Array, Array]]
"""Module → lora_A (r, n), lora_B (m, r)."""
Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"


def random_factors(seed: int, *names: str, r: int = 4, m: int = 96, n: int = 64) -> dict[str, tuple[Array, Array]]:
    """Gaussian factors of each module."""
    rng = np.random.default_rng(seed)
    wanted = names or (Q, DOWN)
    return {name: (rng.standard_normal((r, n)), rng.standard_normal((m, r))) for name in wanted}


def saved(folder: Path, factors: Factors, dtype: str = "float64", **config: Any) -> Path:
    """A folder as save_pretrained writes it, with alpha = r: scaling 1."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Array] = {}
    for name, (a, b) in factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = np.ascontiguousarray(a, dtype)
        tensors[f"base_model.model.{name}.lora_B.weight"] = np.ascontiguousarray(b, dtype)
    save_file(tensors, folder / "adapter_model.safetensors")
    r = len(next(iter(factors.values()))[0]) if factors else 4
    usual = {"peft_type": "LORA", "r": r, "lora_alpha": r, "target_modules": ["q_proj", "down_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(usual | config))
    return folder
