"""The adapter of a PEFT model as a `LoraSnapshot`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from gradience_emit.model import active_adapter, count_parameters, unwrapped
from gradience_schema import LoraSnapshot

__all__ = ["snapshot_lora"]

_ALSO: Final = (
    "task_type",
    "modules_to_save",
    "exclude_modules",
    "layers_to_transform",
    "target_parameters",
    "trainable_token_indices",
    "init_lora_weights",
    "lora_bias",
    "fan_in_fan_out",
)


def snapshot_lora(model: Any) -> LoraSnapshot:
    """The adapter in use; an empty snapshot for a model without one.

    ``scaling`` is ``alpha / r``, with rsLoRA ``alpha / sqrt(r)``: the factor of every module that no pattern names. It
    is None for adapters other than LoRA, whose scaling follows other rules, and where ``r`` is not positive.
    """
    config = active_adapter(model)
    if config is None:
        return LoraSnapshot()
    trainable, total = count_parameters(model)
    kind = _plain(getattr(config, "peft_type", None))
    rank, alpha = getattr(config, "r", None), getattr(config, "lora_alpha", None)
    rslora = bool(getattr(config, "use_rslora", False))
    ratio, scaling = _factors(rank, alpha, rslora=rslora)
    return LoraSnapshot(
        r=rank,
        alpha=alpha,
        alpha_over_r=ratio,
        target_modules=_names(getattr(config, "target_modules", None)),
        dropout=getattr(config, "lora_dropout", None),
        bias=getattr(config, "bias", None),
        extras=_extras(model, config),
        use_rslora=rslora,
        use_dora=bool(getattr(config, "use_dora", False)),
        rank_pattern=dict(getattr(config, "rank_pattern", None) or {}),
        alpha_pattern=dict(getattr(config, "alpha_pattern", None) or {}),
        peft_type=kind,
        scaling=scaling if kind == "LORA" else None,
        trainable_params=trainable,
        total_params=total,
    )


def _factors(rank: Any, alpha: Any, *, rslora: bool) -> tuple[float | None, float | None]:
    """``alpha / r`` and the scaling; None for both where they are not defined."""
    if not isinstance(rank, int) or rank <= 0 or not isinstance(alpha, (int, float)):
        return None, None
    return alpha / rank, alpha / (math.sqrt(rank) if rslora else rank)


def _extras(model: Any, config: Any) -> dict[str, Any]:
    """What else shapes the adapter, where it differs from "not used"."""
    extras = {name: _plain(getattr(config, name, None)) for name in _ALSO}
    extras["adapters"] = names if len(names := list(unwrapped(model).peft_config)) > 1 else None
    return {name: value for name, value in extras.items() if value is not None and value is not False}


def _names(modules: str | Iterable[str] | None) -> tuple[str, ...]:
    """Module names, sorted (PEFT keeps a set); a pattern stays one string."""
    if modules is None:
        return ()
    return (modules,) if isinstance(modules, str) else tuple(sorted(modules))


def _plain(value: Any) -> Any:
    """An enum's value, a set as a sorted list, anything else as it is."""
    plain = getattr(value, "value", value)
    return _names(plain) if type(plain) in {set, frozenset} else plain
