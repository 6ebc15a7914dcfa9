"""A base model, opened: its matrices by the names that an adapter has for them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from gradience_analysis.adapters.factors import LoraModule
from gradience_analysis.base_weights.checkpoint import Checkpoint, read_checkpoint
from gradience_analysis.base_weights.matching import Match, Matcher
from gradience_analysis.base_weights.quantized.detection import weight_of
from gradience_analysis.base_weights.streaming import MatrixRows
from gradience_analysis.base_weights.weight import WeightFault

__all__ = ["BaseWeights", "Match", "open_base"]


class BaseWeights:
    """The weights of a base model, read from its safetensors files when they are asked for.

    Files are opened by what is asked for and closed with it, so that this holds nothing open.

    Attributes:
        path: The path as it was given.
        folder: The folder that the files lie in.
        files: The files that hold the weights, in order.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.path = checkpoint.path
        self.folder = checkpoint.folder
        self.files = checkpoint.files
        self._matcher = Matcher(checkpoint)

    @cached_property
    def quantization(self) -> str:
        """How its first packed weight is packed (`bnb-nf4`, `gptq-4bit`, …); empty when none is that can be read."""
        for layer in sorted(self._matcher.layers.layers):
            try:
                label = weight_of(self._matcher.base, layer).quantization
            except WeightFault:
                continue
            if label:
                return label
        return ""

    def match(self, module: LoraModule | str) -> Match:
        """The matrix that a module changes, or why none is certain.

        Args:
            module: A module of an adapter, whose shape the matrix must have either way round; or its plain name alone.
        """
        return self._matcher.match(module)

    def find(self, module: str) -> str | None:
        """The tensor that holds a module's weight, by its plain name; None when there is none, or more than one."""
        weight = self.match(module).weight
        return None if weight is None else weight.tensor

    def rows(self, module: LoraModule | str) -> MatrixRows:
        """The matrix of a module, decoded and dequantised a block of rows at a time.

        Raises:
            KeyError: No matrix of the base is certainly meant by it; `match` says why.
        """
        match = self.match(module)
        if match.weight is None:
            raise KeyError(match.reason)
        return match.weight.open()


def open_base(path: Path) -> BaseWeights:
    """Open a base model: headers and config.json are read, and nothing in them is run or followed.

    Nothing is fetched; `auto_map` and other hints at code are ignored.

    Args:
        path: A folder of safetensors weights, single or sharded (of transformers or diffusers); one such file, or the
            index of shards; or a model's folder in the local download cache (`models--owner--name`), of which the
            snapshot of `main` is taken.

    Raises:
        InputError: There is no such path, or it has no safetensors weights that can be told to be the model's; shards
            are missing; or (HeaderError) a header cannot be believed.
    """
    return BaseWeights(read_checkpoint(path))
