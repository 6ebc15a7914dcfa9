"""Adapters without PEFT, with factors that the test chooses, and what numpy says about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

EPSILON = float(np.finfo(np.float32).eps)


class Lora(nn.Module):
    """One adapted layer as PEFT's `LoraLayer` looks from outside."""

    def __init__(self, a: Any, b: Any, scaling: float = 1.0) -> None:
        super().__init__()
        a, b = torch.as_tensor(a), torch.as_tensor(b)
        self.lora_A = nn.ModuleDict({"default": linear(a)})
        self.lora_B = nn.ModuleDict({"default": linear(b)})
        self.scaling = {"default": scaling}
        self.active_adapters = ["default"]


def linear(weight: torch.Tensor) -> nn.Linear:
    """A linear layer with this weight, which requires a gradient."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight.clone())
    return layer


def model(**layers: nn.Module) -> nn.Module:
    """A model of named layers."""
    return nn.ModuleDict(dict(layers))


def dense(delta: Any) -> Mapping[str, Any]:
    """Numbers of an update from the singular values of the dense matrix, in float64."""
    delta = np.asarray(delta, dtype=np.float64)
    values = np.linalg.svd(delta, compute_uv=False)
    within = values[values > max(delta.shape) * EPSILON * values[0]]
    return {
        "sigma_max": values[0],
        "sigma_min": within[-1],
        "numerical_rank": len(within),
        "kappa": values[0] / within[-1],
        "stable_rank": np.square(values).sum() / values[0] ** 2,
        "frobenius": np.sqrt(np.square(values).sum()),
    }


def numbers(a: Any, b: Any, scaling: float) -> Mapping[str, Any]:
    """Numbers of scaling · B A, by numpy from the dense product."""
    return dense(scaling * (np.asarray(b, dtype=np.float64) @ np.asarray(a, dtype=np.float64)))
