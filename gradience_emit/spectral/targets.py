"""Finds what is trained: the factors of adapters by the shape of PEFT's layers, and full matrices besides.

Layers are known by what they have (``lora_A``, ``lora_B``, ``scaling``), not by their class, so that PEFT is not
imported and older and newer versions look alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import torch

from gradience_emit.model import unwrapped

__all__ = ["Factors", "FullMatrix", "Targets", "find_targets"]

_PAIRS: Final = (("lora_A", "lora_B"), ("lora_embedding_A", "lora_embedding_B"))
_OWN: Final = ("lora_A", "lora_B", "lora_E", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector")


@dataclass(frozen=True, slots=True)
class Factors:
    """One adapter on one module, whose update is ``scaling`` · B A.

    Attributes:
        name: the module's path; with ``:adapter`` behind it where several are active.
        a: (r, n), a view of the trained tensor; a convolution's kernel is flattened.
        b: (m, r), the same.
        scaling: alpha / r, or alpha / sqrt(r) with rsLoRA: what PEFT put there.
        dora: whether the adapter is a DoRA one.
        parameters: the trained tensors behind ``a`` and ``b``, by which an optimizer knows them.
    """

    name: str
    a: torch.Tensor
    b: torch.Tensor
    scaling: float
    dora: bool
    parameters: tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class FullMatrix:
    """A trained matrix that is no adapter's.

    Attributes:
        name: the parameter's path.
        weight: (m, n), a view of the trained tensor; a convolution's kernel is flattened.
        parameter: that tensor.
    """

    name: str
    weight: torch.Tensor
    parameter: torch.Tensor


@dataclass(frozen=True, slots=True)
class Targets:
    """All that can be measured in a model, and how much cannot.

    Attributes:
        factors: the active adapters, in the model's order.
        matrices: the other trained matrices, in the model's order.
        skipped: adapters and trained tensors of more than one dimension that are neither.
    """

    factors: tuple[Factors, ...]
    matrices: tuple[FullMatrix, ...]
    skipped: int


def find_targets(model: Any) -> Targets:
    """What is trained in a model, as it is now: adapters that are active, and matrices that require a gradient.

    Left out are vectors, matrices with a side of 1 (their condition number is always 1), and what counts as skipped:
    tensors of which this process holds a part only or none (sharded, offloaded, on torch's meta device), factors whose
    shapes do not make a product (convolutions in groups), adapters over a stack of experts and those with a third
    factor (AdaLoRA), and trained tensors of three dimensions or more that are no convolution.

    Tensors on Apple's Metal are copied to the host, since it has no float64.

    Args:
        model: a torch module, with or without the wrappers of data parallelism, PEFT or not.
    """
    factors: list[Factors] = []
    own: set[int] = set()
    skipped = 0
    kernels: set[int] = set()
    root: Any = unwrapped(model)
    modules: list[tuple[str, torch.nn.Module]] = list(root.named_modules())
    parameters: list[tuple[str, torch.nn.Parameter]] = list(root.named_parameters())
    for name, module in modules:
        if isinstance(module, torch.nn.modules.conv._ConvNd):  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the one base of all convolutions
            kernels.add(id(module.weight))
        if not isinstance(vars(module).get("scaling"), Mapping):
            continue
        found = list(_factors_of(name, module))
        factors += [item for item in found if item is not None]
        skipped += sum(item is None for item in found)
        own |= {id(parameter) for parameter in _own_parameters(module)}
    matrices: list[FullMatrix] = []
    for name, parameter in parameters:
        if not parameter.requires_grad or parameter.ndim < 2 or id(parameter) in own:
            continue
        weight = _flat(parameter, is_kernel=id(parameter) in kernels)
        if weight is None:
            skipped += 1
        elif min(weight.shape) > 1:
            matrices.append(FullMatrix(name, weight, parameter))
    return Targets(tuple(factors), tuple(matrices), skipped)


def _factors_of(name: str, module: torch.nn.Module) -> Iterator[Factors | None]:
    """The active adapters of a LoRA layer; None for each that is no plain product of two whole matrices."""
    scaling = cast("Mapping[str, Any]", vars(module)["scaling"])
    active = _active(module)
    for left, right in _PAIRS:
        ones, others = getattr(module, left, None), getattr(module, right, None)
        if ones is None or others is None:
            continue
        chosen = [adapter for adapter in active if adapter in ones and adapter in others]
        for adapter in chosen:
            label = name if len(active) == 1 else f"{name}:{adapter}"
            yield _pair(label, module, (ones[adapter], others[adapter]), scaling.get(adapter), adapter)


def _pair(label: str, module: Any, pair: tuple[Any, Any], scaling: Any, adapter: str) -> Factors | None:
    one, other = (getattr(item, "weight", item) for item in pair)
    a, b = _flat(one, is_kernel=True), _flat(other, is_kernel=True)
    whole = a is not None and b is not None and a.shape[0] == b.shape[1] and a.device == b.device
    if not whole or not isinstance(scaling, (int, float)):
        return None
    if getattr(module, "lora_E", None) is not None or getattr(module, "num_experts", 1) != 1:
        return None
    magnitudes = getattr(module, "lora_magnitude_vector", None)
    dora = magnitudes is not None and adapter in magnitudes
    return Factors(label, cast("torch.Tensor", a), cast("torch.Tensor", b), float(scaling), dora, (one, other))


def _active(module: Any) -> list[str]:
    names = getattr(module, "active_adapters", None)
    if callable(names):
        names = names()
    if names is None:
        names = getattr(module, "active_adapter", ())
    return [names] if isinstance(names, str) else list(cast("Iterable[str]", names))


def _own_parameters(module: torch.nn.Module) -> Iterator[torch.nn.Parameter]:
    """The tensors of every adapter of a LoRA layer, active or not; the adapted weight is not among them."""
    for name in _OWN:
        held = getattr(module, name, None)
        if isinstance(held, torch.nn.Module):
            yield from held.parameters()


def _flat(tensor: Any, *, is_kernel: bool) -> torch.Tensor | None:
    """The tensor as a matrix of two dimensions, a view where it can be one; None for what cannot be measured here."""
    if not isinstance(tensor, torch.Tensor) or type(tensor) not in {torch.Tensor, torch.nn.Parameter}:
        return None  # DTensor and its like: a part of the whole
    if tensor.numel() == 0 or tensor.device.type == "meta" or not tensor.is_floating_point():
        return None
    # Metal has no float64; its memory is the host's.
    detached = tensor.detach().cpu() if tensor.device.type == "mps" else tensor.detach()
    if detached.ndim == 2:
        return detached
    return detached.flatten(1) if is_kernel and detached.ndim > 2 else None
