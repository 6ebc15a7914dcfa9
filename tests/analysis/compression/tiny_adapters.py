"""Tiny models of every layer kind, adapters that PEFT itself writes for them, and what PEFT makes of a folder."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

Deltas = dict[str, NDArray[np.float64]]


class Block(nn.Module):
    """One layer of a made-up model, with a module of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(24, 20, bias=True)
        self.c_attn = Conv1D(36, 24)
        self.conv = nn.Conv2d(3, 10, (3, 2))
        self.conv1 = nn.Conv1d(5, 9, 3)
        self.pointwise = nn.Conv2d(6, 8, 1)
        self.grouped = nn.Conv2d(8, 12, 3, groups=4)
        self.attention = nn.MultiheadAttention(16, 2)


class Experts(nn.Module):
    """A mixture of experts whose weights are parameters: (experts, out, in)."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(3, 14, 10))
        self.down_proj = nn.Parameter(torch.randn(3, 10, 7))


class Model(nn.Module):
    """Twelve layers, so that `layers.1` is the beginning of `layers.10` and `layers.11`."""

    def __init__(self, layers: int = 12) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 12)
        self.layers = nn.ModuleList(Block() for _ in range(layers))
        self.experts = Experts()
        self.head = nn.Linear(12, 30)
        self.score = nn.Linear(12, 2)


def model(layers: int = 12) -> Model:
    """The model, always with the same weights."""
    torch.manual_seed(0)
    return Model(layers)


def written(
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    layers: int = 12,
    decay: float = 0.6,
    seed: int = 1,
    **config: Any,
) -> Path:
    """The folder of an adapter that PEFT has written, its factors random with a falling spectrum."""
    with quiet():
        peft = get_peft_model(model(layers), LoraConfig(**config))  # type: ignore[arg-type]
        torch.manual_seed(seed)
        for name, parameter in peft.named_parameters():
            if "lora_" in name:
                parameter.data = torch.randn_like(parameter) * 0.3
            if "lora_B" in name or "embedding_B" in name:
                parameter.data *= (decay ** torch.arange(parameter.shape[-1])) if parameter.dim() == 2 else 1.0
        peft = peft.to(dtype)
        peft.save_pretrained(str(folder))
    return folder


def loaded(folder: Path, *, layers: int = 12) -> PeftModel:
    """The model with the adapter, loaded as users do."""
    with quiet():
        return PeftModel.from_pretrained(model(layers), str(folder))


def deltas(peft: PeftModel) -> Deltas:
    """Module → delta_w as PEFT computes it, in float64 from the loaded factors."""
    found: Deltas = {}
    for name, layer in peft.base_model.model.named_modules():
        if hasattr(layer, "lora_A") and "default" in getattr(layer, "scaling", {}):
            with quiet():
                found[name] = _delta(layer.double())
    return found


def _delta(layer: Any) -> NDArray[np.float64]:
    if getattr(layer, "parameter_name", ""):
        # get_delta_weight casts to the parameter's number format, which is float64 here.
        return layer.get_delta_weight("default").detach().numpy()
    if isinstance(layer.get_base_layer(), nn.MultiheadAttention):
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        return (b @ a * layer.scaling["default"]).detach().numpy()
    base = layer.get_base_layer()
    if isinstance(base, nn.Conv2d) and base.groups > 1:
        return _grouped(layer, base.groups)
    return layer.get_delta_weight("default").detach().numpy()


def _grouped(layer: Any, groups: int) -> NDArray[np.float64]:
    """A stack of blocks: what PEFT's forward computes, lora_A seeing all channels and lora_B its own group's ranks."""
    a = layer.lora_A["default"].weight.detach().numpy()
    b = layer.lora_B["default"].weight.detach().numpy()
    flat_a, flat_b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    blocks = [one @ two for one, two in zip(np.split(flat_b, groups), np.split(flat_a, groups), strict=True)]
    return np.stack(blocks) * layer.scaling["default"]


def best(delta: NDArray[np.float64], rank: int, kind: str) -> NDArray[np.float64]:
    """The best approximation of this rank by a dense SVD; of each expert or group by itself."""
    if kind in {"experts", "grouped"}:
        return np.stack([best(one, rank, "") for one in delta])
    u, s, vt = np.linalg.svd(delta.reshape(len(delta), -1), full_matrices=False)
    return ((u[:, :rank] * s[:rank]) @ vt[:rank]).reshape(delta.shape)


def kind_of(name: str) -> str:
    """`experts`, `grouped` or nothing, by a module's name."""
    return "experts" if "experts" in name else "grouped" if name.endswith("grouped") else ""


def relative(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """‖one - other‖_F / ‖other‖_F."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


class quiet(warnings.catch_warnings):  # noqa: N801 - it is used like a function
    """Without the warnings of PEFT about made-up models."""

    def __enter__(self) -> Any:
        found = super().__enter__()
        warnings.simplefilter("ignore")
        return found


KINDS: Mapping[str, dict[str, Any]] = {
    "linear": {"target_modules": ["q_proj"]},
    "conv1d of transformers": {"target_modules": ["c_attn"], "fan_in_fan_out": True},
    "conv": {"target_modules": ["conv"]},
    "conv of one dimension": {"target_modules": ["conv1"]},
    "pointwise conv": {"target_modules": ["pointwise"]},
    "grouped conv": {"target_modules": ["grouped"]},
    "attention": {"target_modules": ["attention"]},
    "embedding and head": {"target_modules": ["embed", "head"]},
    "experts": {"target_modules": [], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
    "one parameter of experts": {"target_modules": [], "target_parameters": ["experts.down_proj"]},
}
"""Layer kinds → what targets them."""
