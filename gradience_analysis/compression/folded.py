"""The tensors of the compressed adapter, and the config by which PEFT gives each the rank and the scaling it needs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradience_analysis.adapters.config import AdapterConfig
from gradience_analysis.adapters.keys import Role, classify
from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.adapters.writing import NewTensor, encode_array
from gradience_analysis.audit.suggestion import commonest_rank, pattern_of
from gradience_analysis.compression.layers import Layer, groups_of
from gradience_analysis.compression.originals import AdapterTensors, Array, join
from gradience_analysis.compression.plan import PlannedLayer
from gradience_analysis.compression.truncating import cut
from gradience_analysis.errors import InputError

DTYPES: Mapping[str, str] = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""Number formats that factors can be written in, by torch's name."""
SAME = "same"
# They would be made anew when the adapter is loaded, which at another rank may fail, and be overwritten then.
_REMADE = frozenset({"orthogonal", "mica"})


@dataclass(frozen=True, slots=True)
class NewLayer:
    """A layer as it is written.

    Attributes:
        rank: Its rank.
        alpha: Its alpha: its rank, so that its scaling is 1, but for one that is copied and cannot take the scaling in.
    """

    rank: int
    alpha: float


@dataclass(frozen=True, slots=True)
class Written:
    """Everything that the weight file is to hold.

    Attributes:
        tensors: By name.
        layers: Name of the tensor of lora_A in the original → the layer as it is written.
        names: Name of each factor in the original → its name in the new file.
    """

    tensors: dict[str, NewTensor]
    layers: dict[str, NewLayer]
    names: dict[str, str]


def fold(
    path: str, tensors: AdapterTensors, planned: Sequence[PlannedLayer], dtype: str, whole: Iterable[str]
) -> Written:
    """The tensors of the smaller adapter.

    A layer that is cut gets new factors with the scaling in them. One that is kept takes the scaling into lora_B where
    that loses nothing (as for every power of two), and is else copied bit for bit, with an alpha that keeps its
    scaling. Whole tensors and magnitudes are copied bit for bit.

    Args:
        path: The adapter's folder, for messages.
        tensors: Its tensors.
        planned: What is to happen to its layers.
        dtype: `same` or a key of `DTYPES`: the number format of factors and their biases.
        whole: Names of tensors to copy.

    Raises:
        InputError: A value is beyond the range of the number format, or the format cannot be written.
    """
    found: dict[str, NewTensor] = {name: _copied(tensors, name) for name in whole}
    layers: dict[str, NewLayer] = {}
    names: dict[str, str] = {}
    of = {id(one.layer): one for one in planned}
    for group in groups_of([one.layer for one in planned]):
        plans = [of[id(layer)] for layer in group]
        made = [_cut(path, tensors, one, dtype) for one in plans] if not plans[0].kept_because else None
        if made is None:
            made, folded = _kept(path, tensors, group, dtype)
            alpha = float(group[0].r) if folded else group[0].scaling * group[0].r
        else:
            alpha = float(plans[0].rank)
        for one, new in zip(plans, made, strict=True):
            layers[one.layer.a.name] = NewLayer(one.rank, alpha)
            for name, tensor in new.items():
                names[name] = saved_name(name)
                found[names[name]] = tensor
    return Written(found, layers, names)


def new_config(
    config: AdapterConfig, planned: Sequence[PlannedLayer], layers: Mapping[str, NewLayer]
) -> dict[str, Any]:
    """The config of the smaller adapter: ranks, alphas and patterns set, everything else as it was.

    `r` is the commonest rank (of several such, the largest), and `lora_alpha` the same, so that whoever overlooks the
    patterns still scales by 1. A pattern names one module and no other.
    """
    mode = commonest_rank(one.rank for one in layers.values())
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, int | float] = {}
    for one in planned:
        new = layers[one.layer.a.name]
        for name in one.layer.lookups:
            if new.rank != mode:
                rank_pattern[pattern_of(name)] = new.rank
            if new.alpha != mode:
                alpha_pattern[pattern_of(name)] = int(new.alpha) if new.alpha.is_integer() else new.alpha
    found = {
        **config.raw,
        "r": mode,
        "lora_alpha": mode,
        "use_rslora": False,
        "rank_pattern": rank_pattern,
        "alpha_pattern": alpha_pattern,
    }
    if remakes_factors(config):
        found["init_lora_weights"] = True
    return found


def remakes_factors(config: AdapterConfig) -> bool:
    """Whether the config asks for an initialisation that is tied to the rank and then overwritten at loading."""
    return config.init_lora_weights in _REMADE


def saved_name(name: str) -> str:
    """The name of a factor as save_pretrained writes it: without the adapter's name."""
    key = classify(name)
    if not key.adapter:
        return name
    head, marker, tail = name.rpartition(f".{key.adapter}")
    return head + tail if marker else name


def _copied(tensors: AdapterTensors, name: str) -> NewTensor:
    entry = tensors.entries[name]
    return NewTensor(entry.dtype, entry.shape, tensors.bytes(name))


def _cut(path: str, tensors: AdapterTensors, one: PlannedLayer, dtype: str) -> dict[str, NewTensor]:
    layer = one.layer
    pairs = [
        cut(pair, numbers.gram, one.part_rank, layer.scaling)
        for pair, numbers in zip(tensors.pairs(layer), one.measured, strict=True)
    ]
    a, b = join(layer.layout, pairs, layer.a, layer.b)
    found = {
        layer.a.name: _encoded(path, layer, a, _format(path, layer.a.dtype, dtype)),
        layer.b.name: _encoded(path, layer, b, _format(path, layer.b.dtype, dtype)),
    }
    for name in _biases(layer):
        values = tensors.array(name, "float64") * layer.scaling
        found[name] = _encoded(path, layer, values, _format(path, tensors.entries[name].dtype, dtype))
    return found


def _kept(
    path: str, tensors: AdapterTensors, group: Sequence[Layer], dtype: str
) -> tuple[list[dict[str, NewTensor]], bool]:
    """The tensors of layers that keep their rank, and whether their scaling is in lora_B now."""
    scaling = group[0].scaling
    if scaling not in {0.0, 1.0}:
        made = [_scaled(path, tensors, layer, scaling, dtype) for layer in group]
        if all(exact for _, exact in made):
            return [found for found, _ in made], True
    return [_scaled(path, tensors, layer, 1.0, dtype)[0] for layer in group], scaling == 1.0


def _scaled(
    path: str, tensors: AdapterTensors, layer: Layer, factor: float, dtype: str
) -> tuple[dict[str, NewTensor], bool]:
    """The tensors of a layer, lora_B and its bias times a factor; and whether that lost no bit of them."""
    found: dict[str, NewTensor] = {}
    exact = True
    multiplied = {layer.b.name, *_biases(layer)}
    for name in layer.first.keys:
        old = tensors.entries[name].dtype
        convert = dtype != SAME and name != (layer.first.magnitude.name if layer.first.magnitude else None)
        if not convert and (factor == 1.0 or name not in multiplied):
            found[name] = _copied(tensors, name)
            continue
        values = tensors.array(name, "float64")
        wanted = values * factor if name in multiplied else values
        try:
            found[name] = _encoded(path, layer, wanted, _format(path, old, dtype if convert else SAME))
        except InputError:
            if factor == 1.0:
                raise
            return {}, False
        if name in multiplied and factor != 1.0:
            # Multiplied and rounded, it must be the rounded original multiplied.
            exact &= bool(
                np.array_equal(_rounded(wanted, found[name].dtype), _rounded(values, found[name].dtype) * factor)
            )
    return found, exact


def _biases(layer: Layer) -> tuple[str, ...]:
    return tuple(name for name in layer.first.keys if classify(name).role is Role.BIAS)


def _format(path: str, old: str, dtype: str) -> str:
    wanted = old if dtype == SAME else DTYPES[dtype]
    if wanted not in DTYPES.values():
        raise InputError(
            path, f"stores its factors as {wanted}, which is not written here.", "Give --dtype, such as bfloat16."
        )
    return wanted


def _encoded(path: str, layer: Layer, values: Array, dtype: str) -> NewTensor:
    rounded = encode_array(values, dtype)
    largest = float(np.abs(values).max(initial=0.0))
    if not math.isfinite(largest) or largest > _LARGEST[dtype]:
        raise InputError(
            path, f"has values in {shown(layer.name)} that are beyond the range of {dtype}.", "Give --dtype float32."
        )
    return rounded


# The largest magnitude that does not round to infinity.
_LARGEST: Mapping[str, float] = {
    "F64": math.inf,
    "F32": 3.4028235677973366e38,
    "F16": 65519.99,
    "BF16": 3.3961775e38,
}


def _rounded(values: Array, dtype: str) -> Array:
    """The values after a round trip through the format, in float64."""
    encoded = encode_array(values, dtype).data
    if dtype == "BF16":
        bits = np.asarray(encoded).astype("<u4") << 16
        return bits.view("<f4").astype(np.float64)
    return np.asarray(encoded).astype(np.float64)
