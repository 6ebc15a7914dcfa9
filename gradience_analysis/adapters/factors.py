"""What an adapter adapts: every matrix with its factors, rank and scaling, from headers and config alone.

Layouts as PEFT writes them, and the delta_w that each stands for (`s` the scaling, `∘` by rows):

| layout | lora_A | lora_B | delta_w |
|---|---|---|---|
| linear (also Conv1D of GPT-2, fused qkv, attention, 2-D parameters) | (r, in) | (out, r) | s · B A |
| embedding | (r, vocab) | (dim, r) | (s · B A)ᵀ |
| conv, 1 to 3 dimensions of kernel k | (r, in, k...) | (out, r, 1...) | s · B A on the flattened kernel |
| grouped_conv, g groups | (r, in, k...) | (out, r/g, 1...) | the same, with B block-diagonal: group by group |
| experts, of E experts | (r·E, in) | (out, r·E) | of expert e: s · B[:, e::E] A[e·r:(e+1)·r] |
| adalora | (r, in) | (out, r) | s · B (A ∘ E), E (r, 1) |

A factor is taken as it stands: rank first in A, second in B. Nothing is transposed to make it fit, and what does not
fit, or is in a layout that is not known, is left out with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from gradience_analysis.adapters.config import AdapterConfig
from gradience_analysis.adapters.dtypes import FLOATING
from gradience_analysis.adapters.keys import Role, TensorKey
from gradience_analysis.adapters.pairing import FactorPair, pair_factors
from gradience_analysis.adapters.scaling import (
    adalora_scaling,
    declared_rank,
    lookup_names,
    lora_scaling,
    targeted_parameters,
    wrapped_name,
)
from gradience_analysis.adapters.strict_json import shown

_MOST_DIMENSIONS = 5  # a factor of a three-dimensional convolution


class Layout(StrEnum):
    """How the factors of a module are stored."""

    LINEAR = "linear"
    EMBEDDING = "embedding"
    CONV = "conv"
    GROUPED_CONV = "grouped_conv"
    EXPERTS = "experts"
    ADALORA = "adalora"


_CONVOLUTIONS = frozenset({Layout.CONV, Layout.GROUPED_CONV})


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """Where a tensor lies.

    Attributes:
        file: Name of the file, without its folder.
        name: Its name in the file.
        dtype: Its number format.
        shape: Its dimensions.
    """

    file: str
    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HeldTensor:
    """A tensor of an adapter: its name taken apart, and its place."""

    key: TensorKey
    place: TensorPlace


@dataclass(frozen=True, slots=True)
class LoraModule:
    """One adapted matrix; of a mixture of experts, there is one for each expert.

    Attributes:
        name: The module as the base model names it. Of a parameter that is targeted itself, the parameter's full name
            where it is certain (a parameter called `weight` goes by its module), with the expert in brackets; where
            it is not, the module as the key has it.
        adapter: The adapter's name, where one stands in the keys; else empty.
        layout: How its factors are stored.
        a, b: The factors.
        e: AdaLoRA's diagonal, else None.
        magnitude: DoRA's magnitude vector, else None.
        r: Rank, from the shapes; of experts, from the config.
        alpha: The alpha that applies; None where the config does not say.
        scaling: Factor of the product; None where it is not known.
        scaling_reason: Why it is not, in words that follow "because"; empty when it is.
        shape: (out, in) of B A, which is delta_w as PEFT applies it. A convolution's is (out, in · kernel). Of an
            embedding it is (vocab, dim), which is that of (B A)ᵀ. A base that stores its weights as (in, out) is
            changed by the transpose.
        params: Elements of its factors, without magnitude and bias; of an expert, its share.
        expert: Number of the expert; None of any other module.
        experts: How many experts share the tensors; 1 for any other module.
        groups: Groups of a grouped convolution; 1 for any other module.
        bias: Whether lora_B has a bias, which is no part of delta_w.
        declared_r: The rank that the config gives it; None where it gives none that is certain.
        lookup: The name that PEFT looks its rank and alpha up by; empty where it is not certain.
        parameters: Full names of the parameters that it may be about, where the config targets parameters; else none.
        keys: Names of all its tensors.
    """

    name: str
    adapter: str
    layout: Layout
    a: TensorPlace
    b: TensorPlace
    e: TensorPlace | None
    magnitude: TensorPlace | None
    r: int
    alpha: float | None
    scaling: float | None
    scaling_reason: str
    shape: tuple[int, int]
    params: int
    expert: int | None = None
    bias: bool = False
    experts: int = 1
    groups: int = 1
    declared_r: int | None = None
    lookup: str = ""
    parameters: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Tensors of an adapter that are not audited.

    Attributes:
        module: The module they belong to; empty when their names tell none.
        keys: Their names.
        reason: `duplicate`, `mismatched`, `missing_file`, `pruned`, `rank_zero`, `undecoded_dtype`, `unknown_key`,
            `unknown_rank`, `unpaired`, `unreadable_file` or `unsupported_method`. `pruned` alone is no fault: AdaLoRA
            has taken all ranks of the module away, so that its delta_w is zero.
        sentence: The same in words.
    """

    module: str
    keys: tuple[str, ...]
    reason: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything in an adapter, from headers and config alone; every key of it is in exactly one place.

    Attributes:
        modules: The adapted matrices, in the order of the file. Without any, there is nothing to audit, and nothing
            can be said about the adapter's health.
        left_out: Tensors of the adapter that are not audited.
        lora_keys: Number of keys that belong to an adapter at all: every key that is not a whole tensor.
        whole_tensors: Names of whole tensors, such as `modules_to_save` writes them; they are no factors.
    """

    modules: tuple[LoraModule, ...]
    left_out: tuple[LeftOut, ...]
    lora_keys: int
    whole_tensors: tuple[str, ...]

    @property
    def audited_keys(self) -> int:
        """Number of keys that the modules are made of."""
        return count_keys(self.modules)


def count_keys(modules: Iterable[LoraModule]) -> int:
    """Number of keys that these modules are made of; experts share theirs."""
    return len({(module.a.file, key) for module in modules for key in module.keys})


def take_inventory(tensors: Sequence[HeldTensor], config: AdapterConfig | None, fault: str = "") -> Inventory:
    """The adapted matrices of an adapter, and what of it is left out.

    Args:
        tensors: All its tensors, in the order of the files.
        config: Its config; None when it cannot be read.
        fault: Why there is no config, in words that follow its name.
    """
    found = pair_factors(tensors)
    left_out = [*_of_no_pair(tensors), *(_unpaired(one) for one in (*found.unpaired, *found.stray))]
    spare: dict[tuple[str, str], list[str]] = {}
    for one in found.repeated:
        spare.setdefault((one.key.module, one.key.adapter), []).append(one.key.name)
    modules: list[LoraModule] = []
    for pair in found.pairs:
        more = spare.pop((pair.a.key.module, pair.a.key.adapter), ())
        made = _left(pair, "duplicate", _twice(more), more) if more else _modules(pair, config, fault)
        if isinstance(made, LeftOut):
            left_out.append(made)
        else:
            modules += made
    left_out += [LeftOut(module, tuple(names), "duplicate", _twice(names)) for (module, _), names in spare.items()]
    whole = tuple(one.key.name for one in tensors if one.key.role is Role.WHOLE)
    return Inventory(tuple(modules), tuple(left_out), len(tensors) - len(whole), whole)


def _of_no_pair(tensors: Iterable[HeldTensor]) -> Iterable[LeftOut]:
    """Tensors that no name makes a part of a pair, module by module."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for one in tensors:
        if one.key.role in {Role.OTHER_METHOD, Role.UNKNOWN_LORA}:
            found.setdefault((one.key.module, one.key.role, one.key.method), []).append(one.key.name)
    for (module, role, method), names in found.items():
        if role == Role.OTHER_METHOD:
            yield LeftOut(module, tuple(names), "unsupported_method", f"It is of the method {method}, not of LoRA.")
        else:
            sentence = f"{shown(names[0])} is in no layout of LoRA that is known."
            yield LeftOut(module, tuple(names), "unknown_key", sentence)


def _unpaired(one: HeldTensor) -> LeftOut:
    lacking = {
        Role.A: "lora_B",
        Role.B: "lora_A",
        Role.EMBEDDING_A: "lora_embedding_B",
        Role.EMBEDDING_B: "lora_embedding_A",
        Role.ADALORA_A: "lora_B",
        Role.ADALORA_B: "lora_A",
    }.get(one.key.role, "pair of factors that it belongs to")
    sentence = f"{shown(one.key.name)} has no {lacking}."
    return LeftOut(wrapped_name(one.key), (one.key.name,), "unpaired", sentence)


def _twice(names: Sequence[str]) -> str:
    return f"{shown(names[0])} stands in the adapter more than once, and which one is meant is not told."


def _left(pair: FactorPair[HeldTensor], reason: str, sentence: str, more: Iterable[str] = ()) -> LeftOut:
    keys = (*(one.key.name for one in pair.parts), *more)
    return LeftOut(wrapped_name(pair.a.key), keys, reason, sentence)


def _modules(pair: FactorPair[HeldTensor], config: AdapterConfig | None, fault: str) -> list[LoraModule] | LeftOut:
    """The matrices of one pair of factors; or why there are none."""
    obstacle = _obstacle(pair, config)
    if obstacle is not None:
        return obstacle
    layout = _layout(pair)
    problem = _shape_problem(pair, layout)
    if problem is not None:
        return _left(pair, *problem)
    module = _module(pair, layout, config, fault)
    if layout is not Layout.LINEAR or not module.parameters:
        return [module]
    return _experts(pair, module, config, fault)


def _obstacle(pair: FactorPair[HeldTensor], config: AdapterConfig | None) -> LeftOut | None:
    """What keeps a pair from being read, whatever its shapes are."""
    if config is not None and config.variant:
        sentence = f"The config asks for {config.variant}, whose update is not lora_B @ lora_A."
        return _left(pair, "unsupported_method", sentence)
    for one in (pair.a, pair.b, pair.e, pair.magnitude):
        if one is not None and one.place.dtype not in FLOATING:
            sentence = f"{shown(one.key.name)} is stored as {one.place.dtype}, which is not decoded here."
            return _left(pair, "undecoded_dtype", sentence)
    if pair.a.key.role is Role.ADALORA_A and pair.e is None:
        return _left(pair, "unpaired", f"{shown(pair.a.key.name)} has no lora_E.")
    return None


def _layout(pair: FactorPair[HeldTensor]) -> Layout:
    """The layout, as far as names and shapes tell it; a 2-D pair of LoRA may be that of experts."""
    if pair.a.key.role is Role.EMBEDDING_A:
        return Layout.EMBEDDING
    if pair.a.key.role is Role.ADALORA_A:
        return Layout.ADALORA
    a, b = pair.a.place.shape, pair.b.place.shape
    if len(a) == len(b) and 2 < len(a) <= _MOST_DIMENSIONS:
        return Layout.CONV if a[0] == b[1] else Layout.GROUPED_CONV
    return Layout.LINEAR


def _shape_problem(pair: FactorPair[HeldTensor], layout: Layout) -> tuple[str, str] | None:
    """(reason, sentence) when the shapes of a pair contradict each other or hold nothing; else None."""
    a, b = pair.a.place.shape, pair.b.place.shape
    shapes = f"A has the shape {_sizes(a)} and B {_sizes(b)}"
    if layout not in _CONVOLUTIONS and (len(a) != 2 or len(b) != 2):
        return "mismatched", f"{shapes}, which no layout of LoRA has."
    if a[0] == 0 and b[1] == 0:
        pruned = layout is Layout.ADALORA
        words = "AdaLoRA has pruned all its ranks: its delta_w is zero." if pruned else f"{shapes}: its rank is 0."
        return ("pruned" if pruned else "rank_zero"), words
    if 0 in a or 0 in b:
        return "mismatched", f"{shapes}: one of them holds no values."
    contradiction = _contradiction(a, b, layout)
    if contradiction:
        return "mismatched", f"{shapes}: {contradiction}."
    return ("mismatched", words) if (words := _beside_problem(pair)) else None


def _beside_problem(pair: FactorPair[HeldTensor]) -> str:
    """What does not fit the factors in what stands beside them, as a sentence; empty when all does."""
    rows, out = pair.a.place.shape[0], pair.b.place.shape[0]
    if pair.e is not None and pair.e.place.shape != (rows, 1):
        return f"A has {rows:,} rows, and E the shape {_sizes(pair.e.place.shape)}."
    if pair.magnitude is not None and _count(pair.magnitude.place.shape) != out:
        return f"B has {out:,} rows, and the magnitude vector the shape {_sizes(pair.magnitude.place.shape)}."
    return ""


def _contradiction(a: Sequence[int], b: Sequence[int], layout: Layout) -> str:
    """What keeps B A from being a product, in words; empty when nothing does."""
    if layout in _CONVOLUTIONS and set(b[2:]) != {1}:
        return "B of a convolution has a kernel of size 1"
    if layout is not Layout.GROUPED_CONV:
        return "" if a[0] == b[1] else f"the {a[0]:,} rows of A are not the {b[1]:,} columns of B"
    fits = a[0] % b[1] == 0 and b[0] % (a[0] // b[1]) == 0
    return "" if fits else "no number of groups explains them"


def _module(pair: FactorPair[HeldTensor], layout: Layout, config: AdapterConfig | None, fault: str) -> LoraModule:
    """The one matrix of a pair."""
    key, a, b = pair.a.key, pair.a.place, pair.b.place
    r, out, columns = a.shape[0], b.shape[0], _count(a.shape[1:])
    names = lookup_names(config, key)
    scaling = adalora_scaling(config, r, fault) if layout is Layout.ADALORA else lora_scaling(config, names, r, fault)
    held = (a, b, pair.e.place) if pair.e else (a, b)
    return LoraModule(
        name=wrapped_name(key),
        adapter=key.adapter,
        layout=layout,
        a=a,
        b=b,
        e=pair.e.place if pair.e else None,
        magnitude=pair.magnitude.place if pair.magnitude else None,
        r=r,
        alpha=scaling.alpha,
        scaling=scaling.value,
        scaling_reason=scaling.reason,
        shape=(columns, out) if layout is Layout.EMBEDDING else (out, columns),
        params=sum(_count(one.shape) for one in held),
        bias=pair.bias is not None,
        groups=r // b.shape[1] if layout is Layout.GROUPED_CONV else 1,
        declared_r=None if layout is Layout.ADALORA else declared_rank(config, key),
        lookup=names[0] if len(names) == 1 else "",
        parameters=targeted_parameters(config, key) if layout is Layout.LINEAR else (),
        keys=tuple(one.key.name for one in pair.parts),
    )


def _experts(
    pair: FactorPair[HeldTensor], module: LoraModule, config: AdapterConfig | None, fault: str
) -> list[LoraModule] | LeftOut:
    """The matrices of a parameter that is targeted itself: one for each expert, of which 2-D parameters have one."""
    rows, r = module.a.shape[0], module.declared_r
    if r is None:
        sentence = "The config gives no rank for it that is certain, so that its experts cannot be told apart."
        return _left(pair, "unknown_rank", sentence)
    if rows % r:
        return _left(pair, "mismatched", f"A has {rows:,} rows, which is no multiple of r = {r:,}.")
    count = rows // r
    scaling = lora_scaling(config, lookup_names(config, pair.a.key), r, fault)
    name = _parameter_name(pair.a.key, module)
    if count == 1:
        return [replace(module, name=name)]
    one = replace(
        module,
        layout=Layout.EXPERTS,
        r=r,
        alpha=scaling.alpha,
        scaling=scaling.value,
        scaling_reason=scaling.reason,
        params=module.params // count,
        experts=count,
    )
    return [replace(one, name=f"{name}[{number}]", expert=number) for number in range(count)]


def _parameter_name(key: TensorKey, module: LoraModule) -> str:
    """The targeted parameter where it is certain; else the module with its wrappers, as the key has it."""
    if len(module.parameters) != 1:
        return key.module
    owner, _, parameter = module.parameters[0].rpartition(".")
    return owner if parameter == "weight" else module.parameters[0]


def _count(shape: Sequence[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _sizes(shape: Sequence[int]) -> str:
    return f"({', '.join(str(size) for size in shape)})"
