"""Names and shapes of a model's tensors, from the headers of its safetensors files; no weight is read."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from gradience_analysis.base_weights.checkpoint import read_checkpoint
from gradience_analysis.errors import InputError


class Weights(NamedTuple):
    """What the headers say.

    Attributes:
        shapes: Tensor name to shape.
        size: Bytes of all tensors.
        fault: Why they could not be read; empty when they could.
    """

    shapes: dict[str, tuple[int, ...]]
    size: int
    fault: str = ""


def gather_weights(folder: Path) -> Weights:
    """The tensors of the model in a folder, whole or in shards."""
    try:
        tensors = read_checkpoint(folder).tensors
    except InputError as error:
        return Weights({}, 0, str(error))
    shapes = {name: stored.entry.shape for name, stored in tensors.items()}
    return Weights(shapes, sum(stored.entry.end - stored.entry.begin for stored in tensors.values()))
