"""Looks through the wrappers of a model: the model itself, its base under PEFT, and the adapter in use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

__all__ = ["active_adapter", "base_model", "count_parameters", "model_extras", "model_name", "unwrapped"]

_WRAPPERS: Final[Mapping[str, str]] = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "FullyShardedDataParallel": "module",
    "DeepSpeedEngine": "module",
    "OptimizedModule": "_orig_mod",
}


def unwrapped(model: Any) -> Any:
    """``model`` without the wrappers of data parallelism and compilation."""
    while (attribute := _WRAPPERS.get(type(model).__name__)) is not None:
        model = getattr(model, attribute)
    return model


def base_model(model: Any) -> Any:
    """The model that was adapted; the model itself without PEFT."""
    model = unwrapped(model)
    return model.get_base_model() if hasattr(model, "get_base_model") and hasattr(model, "peft_config") else model


def active_adapter(model: Any) -> Any | None:
    """The PEFT config of the adapter in use (the first of several); None when the model has no adapter."""
    model = unwrapped(model)
    adapters: Mapping[str, Any] = getattr(model, "peft_config", None) or {}
    names: Any = getattr(model, "active_adapters", None)
    if callable(names):  # a method of transformers' own models, a property of a PeftModel
        names = names() if adapters else None
    active = [names] if isinstance(names, str) else cast("list[str]", names or [])
    return next((adapters[name] for name in active if name in adapters), next(iter(adapters.values()), None))


def count_parameters(model: Any) -> tuple[int, int]:
    """Trainable and all parameters. PEFT counts them where it can: it knows how quantized ones are packed."""
    model = unwrapped(model)
    if hasattr(model, "get_nb_trainable_parameters"):
        trainable, total = model.get_nb_trainable_parameters()
        return int(trainable), int(total)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)


def model_name(model: Any) -> str | None:
    """What the base model calls itself, or what its adapter says it belongs to; None when neither does."""
    base = base_model(model)
    name = getattr(getattr(base, "config", None), "_name_or_path", None) or getattr(base, "name_or_path", None)
    return name or getattr(active_adapter(model), "base_model_name_or_path", None) or None


def model_extras(model: Any) -> dict[str, Any]:
    """The model's class; for full fine-tuning also the parameter counts, which have no other place then."""
    if model is None:
        return {}
    extras: dict[str, Any] = {"model_class": type(base_model(model)).__name__}
    if active_adapter(model) is None:
        extras["trainable_params"], extras["total_params"] = count_parameters(model)
    return extras
