"""The factor that a product of lora_B and lora_A is scaled by, resolved as PEFT resolves it.

| method | scaling |
|---|---|
| LoRA | alpha / r |
| rsLoRA | alpha / sqrt(r) (Kalajdzievski 2023) |
| AdaLoRA | alpha / (init_r + 1e-5); alpha <= 0 counts as the rank |

`rank_pattern` and `alpha_pattern` are looked up apart, each by its first key that matches the name under which PEFT
made the module (peft.utils.other.get_pattern_key). AdaLoRA has no patterns of this kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradience_analysis.adapters.config import CONFIG_NAME, AdapterConfig
from gradience_analysis.adapters.keys import TensorKey

ADALORA_EPSILON = 1e-5
_BASE_LAYER = ".base_layer"
# torch.nn.MultiheadAttention: PEFT makes its output projection with the rank and alpha of the attention as a whole.
_OUT_PROJ = ".base_layer.out_proj"


@dataclass(frozen=True, slots=True)
class Scaling:
    """What the config says about one module.

    Attributes:
        value: The factor; None when it is not known.
        alpha: The alpha that applies; None when it is not known.
        reason: Why there is no factor, in words that follow "because"; empty when there is one.
    """

    value: float | None
    alpha: float | None
    reason: str = ""


def wrapped_name(key: TensorKey) -> str:
    """The module as the base model names it: without the wrappers that PEFT puts in between."""
    return key.module.replace(_BASE_LAYER, "")


def targeted_parameters(config: AdapterConfig | None, key: TensorKey) -> tuple[str, ...]:
    """Names of the parameters of this module that the config targets themselves, as full names; most often none.

    PEFT wraps a module once for each of them, in the order in which the model defines them, which no file tells. With
    more than one, therefore, none can be told to be the one that these factors belong to.
    """
    if config is None:
        return ()
    name = wrapped_name(key)
    found: list[str] = []
    for target in config.target_parameters:
        owner, _, parameter = target.rpartition(".")
        if not owner or name == owner or name.endswith(f".{owner}"):
            found.append(f"{name}.{parameter}")
    return tuple(sorted(set(found)))


def lookup_names(config: AdapterConfig | None, key: TensorKey) -> tuple[str, ...]:
    """The names that PEFT may have looked the module's rank and alpha up by.

    One, but for a module of which several parameters are targeted: each of them, as none can be told to be the one.
    """
    name = wrapped_name(key)
    parameters = targeted_parameters(config, key)
    if parameters:
        whole_models = [one for one in (config.target_parameters if config else ()) if "." not in one]
        return (*parameters, name) if whole_models else parameters
    if key.module.endswith(_OUT_PROJ):
        attention = TensorKey(key.name, key.role, key.plain_module)
        if not targeted_parameters(config, attention):
            return (key.plain_module,)
    return (name,)


def declared_rank(config: AdapterConfig | None, key: TensorKey) -> int | None:
    """The rank that the config gives a LoRA module; None where it gives none, or not one that is certain."""
    if config is None:
        return None
    ranks = {config.rank_of(name) for name in lookup_names(config, key)}
    return ranks.pop() if len(ranks) == 1 else None


def lora_scaling(config: AdapterConfig | None, names: Sequence[str], r: int, fault: str = "") -> Scaling:
    """The scaling of a LoRA or rsLoRA module.

    Args:
        config: The adapter's config.
        names: What PEFT may have looked its alpha up by, from `lookup_names`.
        r: Its rank, from the shapes of its factors; of experts, from the config.
        fault: Why there is no config.
    """
    if config is None:
        return Scaling(None, None, _no_config(fault))
    if config.peft_type not in {None, "LORA"}:
        return Scaling(None, None, f"the config is of the method {config.peft_type}, not LORA")
    alphas = {config.alpha_of(name) for name in names}
    alpha = alphas.pop() if len(alphas) == 1 else None
    if alpha is None:
        return Scaling(None, None, _no_alpha(config))
    if "use_rslora" in config.wrong_types:
        return Scaling(None, alpha, f"use_rslora is of the wrong type ({config.wrong_types['use_rslora']})")
    return Scaling(alpha / math.sqrt(r) if config.use_rslora else alpha / r, alpha)


def adalora_scaling(config: AdapterConfig | None, r: int, fault: str = "") -> Scaling:
    """The scaling of an AdaLoRA module.

    PEFT keeps dividing by the rank that it started from, `init_r`, after ranks were pruned.

    Args:
        config: The adapter's config.
        r: The rank that is left, from the shapes of its factors.
        fault: Why there is no config.
    """
    if config is None:
        return Scaling(None, None, _no_config(fault))
    if config.peft_type != "ADALORA":
        return Scaling(None, None, f"the config is of the method {config.peft_type}, but the factors are of ADALORA")
    if config.lora_alpha is None:
        return Scaling(None, None, _no_alpha(config))
    if config.init_r is None:
        return Scaling(None, config.lora_alpha, "the config has no init_r, by which AdaLoRA divides")
    alpha = config.lora_alpha if config.lora_alpha > 0 else float(r)
    return Scaling(alpha / (config.init_r + ADALORA_EPSILON), config.lora_alpha)


def _no_config(fault: str) -> str:
    return f"{CONFIG_NAME} {fault or 'is not known'}"


def _no_alpha(config: AdapterConfig) -> str:
    for field in ("alpha_pattern", "lora_alpha"):
        if field in config.wrong_types:
            return f"{field} has a value of the wrong type ({config.wrong_types[field]})"
    if config.lora_alpha is None:
        return "the config has no lora_alpha"
    return "it cannot be told which entry of alpha_pattern applies"
