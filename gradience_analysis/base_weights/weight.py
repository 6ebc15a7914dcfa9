"""One matrix of a base model: which tensors hold it, how, and what its dimensions are. Nothing is read for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.base_weights.checkpoint import Stored
from gradience_analysis.base_weights.streaming import MatrixRows

Tensors = Mapping[str, Stored]


class WeightFault(Exception):  # noqa: N818 - it is no error of the user's: it becomes the reason of one module
    """Tensors that look like a weight of a known kind and cannot be read as one.

    Attributes:
        reason: Why, as a sentence.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Weight:
    """One matrix of a base model.

    Attributes:
        tensor: Name of the tensor that holds it, or its first part.
        shape: Its dimensions as stored, a convolution's flattened to (out, in · kernel); of a packed weight, (out, in).
        quantization: How it is packed, such as `bnb-nf4`; empty when it is not.
        parts: Everything that its values are made of, for the key of a cache.
        part: What of these tensors it is, where it is not the whole, such as `expert 3`.
        open: Gives its rows.
    """

    tensor: str
    shape: tuple[int, int]
    quantization: str
    parts: tuple[Stored, ...]
    open: Callable[[], MatrixRows] = field(repr=False)
    part: str = ""

    def fits(self, shape: tuple[int, int]) -> bool:
        """Whether the dimensions are those, either way round: Conv1D stores its weight transposed."""
        return sorted(self.shape) == sorted(shape)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a scheme may look at to recognise a layer.

    Attributes:
        tensors: Every tensor of the checkpoint.
        settings: `quantization_config` of config.json over quantize_config.json.
        settings_known: Whether these files could be read, where they are there.
    """

    tensors: Tensors
    settings: Mapping[str, Any]
    settings_known: bool = True


def part_of(tensors: Tensors, name: str, dtypes: frozenset[str], sizes: int) -> Stored:
    """A tensor that a scheme needs, in one of these formats and with that many dimensions.

    Raises:
        WeightFault: It is missing or another.
    """
    stored = tensors.get(name)
    if stored is None:
        raise WeightFault(f"The base lacks the tensor {shown(name)}.")
    entry = stored.entry
    if entry.dtype not in dtypes or len(entry.shape) != sizes:
        shape = " x ".join(map(str, entry.shape)) or "a scalar"
        raise WeightFault(f"The base holds {shown(name)} as {entry.dtype}, {shape}, which is not read here.")
    return stored
