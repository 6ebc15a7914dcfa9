"""What of an adapter can be compressed: the places where PEFT puts factors, and what keeps them from being cut.

PEFT looks the rank and the alpha of a place up by a name; places that share it (the in- and out-projection of an
attention module, two parameters of one module) have one rank and are one group here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradience_analysis.adapters.config import AdapterConfig
from gradience_analysis.adapters.factors import Layout, LoraModule, TensorPlace
from gradience_analysis.adapters.keys import TensorKey, classify
from gradience_analysis.adapters.opened import OpenedAdapter
from gradience_analysis.adapters.scaling import lookup_names
from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.diagnostics.adapter_dominance import changes_base
from gradience_analysis.errors import InputError
from gradience_analysis.model import plural

# Fields of the config that give an adapter another meaning than the sum of its products, with their names.
_METHODS: Mapping[str, str] = {
    "kasa_config": "KaSA",
    "use_bdlora": "BD-LoRA",
    "use_qalora": "QALoRA",
    "monteclora_config": "MonteCLoRA",
    "arrow_config": "Arrow",
    "ensure_weight_tying": "ensure_weight_tying, by which two modules share their factors",
}
# transformers 5 fuses these into one parameter for all experts when it loads the adapter.
_SEPARATE_EXPERT = re.compile(r"\.experts\.\d+\.(w[123]|(gate|up|down)_proj)$")
DORA = "DoRA: its magnitude vector was trained against the row norms of W + delta_w, which a truncation changes"


@dataclass(frozen=True, slots=True)
class Layer:
    """One place where PEFT puts factors: a pair of tensors, which hold one matrix or those of several experts.

    Attributes:
        name: The module as the base model names it; of experts, without the number of one.
        modules: Its matrices: one, or one for each expert.
        lookups: The names by which PEFT looks up its rank and alpha.
        scaling: What the products are scaled by.
    """

    name: str
    modules: tuple[LoraModule, ...]
    lookups: tuple[str, ...]
    scaling: float

    @property
    def first(self) -> LoraModule:
        """The matrix that stands for all of them: they have layout, tensors and scaling in common."""
        return self.modules[0]

    @property
    def layout(self) -> Layout:
        """How the factors are stored."""
        return self.first.layout

    @property
    def r(self) -> int:
        """The rank as PEFT counts it: of each expert, and of all groups of a convolution together."""
        return self.first.r

    @property
    def parts(self) -> int:
        """Into how many independent products the tensors fall: experts, or groups of a convolution; else 1."""
        return len(self.modules) if self.layout is Layout.EXPERTS else self.first.groups

    @property
    def part_r(self) -> int:
        """Rank of each of the products."""
        return self.r // self.first.groups

    @property
    def a(self) -> TensorPlace:
        """The tensor of lora_A."""
        return self.first.a

    @property
    def b(self) -> TensorPlace:
        """The tensor of lora_B."""
        return self.first.b

    @property
    def params(self) -> int:
        """Elements of the factors."""
        return sum(module.params for module in self.modules)

    @property
    def kept_because(self) -> str:
        """Why it cannot be cut; empty when it can."""
        return DORA if self.first.magnitude is not None else ""

    def params_at(self, rank: int) -> int:
        """Elements of the factors at this rank: they are proportional to it."""
        return self.params * rank // self.r


def layers_of(opened: OpenedAdapter) -> tuple[Layer, ...]:
    """Every place with factors of an adapter that can be compressed as a whole, in the order of the file.

    Raises:
        InputError: The adapter's update is not the sum of its products, its scaling is not known, or something in it
            is not understood: a smaller adapter could not be written without changing what it is.
    """
    config = _config(opened)
    path, inventory = str(opened.folder), opened.inventory
    if inventory.left_out:
        first = inventory.left_out[0]
        where = f"{shown(first.module)}: " if first.module else ""
        count = plural(len(inventory.left_out), "part")
        raise InputError(
            path,
            f"holds {count} that cannot be taken for LoRA factors. {where}{first.sentence.rstrip('.')}.",
            "Only an adapter that is understood as a whole is compressed; gradience audit lists them.",
        )
    by_tensor: dict[tuple[str, str], list[LoraModule]] = {}
    for module in inventory.modules:
        _refuse_module(path, module)
        by_tensor.setdefault((module.a.file, module.a.name), []).append(module)
    if not by_tensor:
        raise InputError(path, "holds no LoRA factors.", "Give the folder of a LoRA adapter.")
    if inventory.whole_tensors and any(module.adapter for module in inventory.modules):
        raise InputError(
            path,
            "names its adapter within its keys, beside whole tensors, as no saved adapter does.",
            "Write it with save_pretrained first.",
        )
    layers = tuple(_layer(modules, config) for modules in by_tensor.values())
    _refuse_groups(path, layers)
    return layers


def _config(opened: OpenedAdapter) -> AdapterConfig:
    config, path = opened.config, str(opened.folder)
    if config is None:
        fault = opened.config_fault or "is not there"
        raise InputError(
            path,
            f"cannot be compressed without its config, which {fault.rstrip('.')}.",
            "Put the adapter_config.json beside it that was saved with it.",
        )
    if config.peft_type == "ADALORA":
        raise InputError(
            path,
            "is an AdaLoRA adapter: it prunes its ranks itself, and PEFT rebuilds them from a mask in its config.",
            "Merge it into the base, or train a LoRA adapter, to get one that can be compressed.",
        )
    if config.peft_type != "LORA":
        raise InputError(path, f"is of the method {shown(config.peft_type or 'none')}; only LoRA is compressed.")
    how = config.init_lora_weights
    if isinstance(how, str) and changes_base(how):
        raise InputError(
            path,
            f"was initialised by {shown(how)}, which takes a part of the base's weights into the adapter, and at "
            f"loading takes it out of the base again by the rank: at another rank the base would be another.",
            "Save it with path_initial_model_for_weight_conversion first: that gives a plain LoRA adapter.",
        )
    for field, name in _METHODS.items():
        if config.raw.get(field):
            raise InputError(path, f"uses {name}: that is more than a product of two factors, and is not compressed.")
    return config


def _refuse_module(path: str, module: LoraModule) -> None:
    name = shown(module.name)
    if module.scaling is None:
        reason = module.scaling_reason.rstrip(".")
        raise InputError(path, f"does not tell by what {name} is scaled: {reason}.", "Mend its config.")
    if module.declared_r is not None and module.declared_r != module.r:
        raise InputError(
            path,
            f"gives {name} the rank {module.declared_r:,} in its config, but factors of rank {module.r:,}, which PEFT "
            f"does not load.",
            "Take the adapter_config.json that was saved with the weights.",
        )


def _layer(modules: Sequence[LoraModule], config: AdapterConfig) -> Layer:
    first = modules[0]
    name = first.name if first.expert is None else first.name.removesuffix(f"[{first.expert}]")
    key: TensorKey = classify(first.a.name)
    return Layer(name, tuple(modules), lookup_names(config, key), first.scaling or 0.0)


def _refuse_groups(path: str, layers: Sequence[Layer]) -> None:
    """What PEFT looks up together has one rank; anything else is no adapter that PEFT has written."""
    for group in groups_of(layers):
        if len({(layer.r, layer.scaling) for layer in group}) > 1:
            names = " and ".join(shown(layer.name) for layer in group[:2])
            raise InputError(path, f"has different ranks or scalings for {names}, which PEFT looks up together.")


def groups_of(layers: Sequence[Layer]) -> tuple[tuple[Layer, ...], ...]:
    """The layers by the names that PEFT looks them up by; most groups have one."""
    groups: dict[tuple[str, ...], list[Layer]] = {}
    for layer in layers:
        groups.setdefault(layer.lookups, []).append(layer)
    return tuple(tuple(group) for group in groups.values())


def has_separate_experts(layers: Sequence[Layer]) -> bool:
    """Whether experts have modules of their own that transformers 5 fuses into one parameter at loading."""
    return any(_SEPARATE_EXPERT.search(layer.name) for layer in layers)
