"""How the weight of a layer is stored: plain, or packed by one of the schemes of this room."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from gradience_analysis.adapters.dtypes import FLOATING
from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.base_weights.checkpoint import Checkpoint
from gradience_analysis.base_weights.quantized import awq, bitsandbytes_4bit, bitsandbytes_8bit, fp8, gptq
from gradience_analysis.base_weights.streaming import DenseRows
from gradience_analysis.base_weights.weight import Surroundings, Weight, WeightFault

SCHEMES: tuple[Callable[[Surroundings, str], Weight | None], ...] = (
    bitsandbytes_4bit.find,
    bitsandbytes_8bit.find,
    gptq.find,
    awq.find,
    fp8.find,
)
_PLAIN = (".weight", ".in_proj_weight")
# Tensors by which schemes that are not read can be told, so that a report can name them.
_OTHERS = {
    ".weight_packed": "compressed-tensors",
    ".qweight": "a scheme of packed integers that is neither GPTQ nor AWQ",
    "_blocks": "MXFP4",
}
ENDINGS = (*_PLAIN, *_OTHERS)
"""What follows the name of a layer in the name of the tensor that holds its weight."""


def surroundings(checkpoint: Checkpoint) -> Surroundings:
    """What the schemes look at: the tensors, and the settings of the quantization."""
    found = (checkpoint.config or {}).get("quantization_config")
    own = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    settings: Mapping[str, Any] = {**(checkpoint.quantize_config or {}), **own}
    known = checkpoint.config is not None and checkpoint.quantize_config is not None
    return Surroundings(checkpoint.tensors, settings, known)


def weight_of(base: Surroundings, layer: str) -> Weight:
    """The weight of a layer.

    Raises:
        WeightFault: It is stored in a way that is not read here, or its parts do not fit together.
    """
    for scheme in SCHEMES:
        found = scheme(base, layer)
        if found is not None:
            return found
    for ending in _PLAIN:
        if f"{layer}{ending}" in base.tensors:
            return plain_weight(base, f"{layer}{ending}")
    name = next((name for ending, name in _OTHERS.items() if f"{layer}{ending}" in base.tensors), "an unknown scheme")
    raise WeightFault(f"The base packs {shown(layer)} by {name}, which is not read here.")


def plain_weight(base: Surroundings, name: str, *, row: int | None = None) -> Weight:
    """A tensor of plain numbers as a matrix; a convolution's is flattened to (out, in · kernel).

    Args:
        base: The checkpoint.
        name: The tensor.
        row: Of a tensor of three dimensions, the one matrix that is meant.

    Raises:
        WeightFault: It holds no plain numbers, or has no such matrix.
    """
    stored = base.tensors[name]
    entry = stored.entry
    if entry.dtype not in FLOATING or len(entry.shape) < 2:
        raise WeightFault(f"The base holds {shown(name)} as {entry.dtype}, which is not read here.")
    if row is None:
        shape = (entry.shape[0], math.prod(entry.shape[1:]))
        return Weight(name, shape, "", (stored,), partial(DenseRows, stored, shape))
    count, rows, columns = entry.shape
    if row >= count:
        raise WeightFault(f"The base's {shown(name)} has {count:,} experts and no number {row:,}.")
    shape = (rows, columns)
    opened = partial(DenseRows, stored, shape, row * rows * columns)
    return Weight(name, shape, "", (stored,), opened, f"expert {row}")
