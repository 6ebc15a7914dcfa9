"""Which matrix of a base model an adapted module changes, by name and shape; what is not certain is no match.

Names lead by their endings (`names`). A match whose dimensions are not the module's, either way round, is refused:
a norm of another matrix is worse than none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

from gradience_analysis.adapters.dtypes import FLOATING
from gradience_analysis.adapters.factors import LoraModule
from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.base_weights.checkpoint import Checkpoint
from gradience_analysis.base_weights.names import LayerNames
from gradience_analysis.base_weights.quantized.detection import ENDINGS, plain_weight, surroundings, weight_of
from gradience_analysis.base_weights.streaming import MatrixRows, StackedRows
from gradience_analysis.base_weights.weight import Surroundings, Weight, WeightFault

_HEAD = "lm_head"
_EMBEDDINGS = frozenset({"embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings"})
# What the parts of one expert are called in files that keep the experts apart, by the name that holds them all.
_EXPERT_PARTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")),
    "down_proj": (("down_proj",), ("w2",)),
}
_EXPERT_FOLDERS = (("", ""), (".mlp.", ".block_sparse_moe."))


@dataclass(frozen=True, slots=True)
class Match:
    """The matrix that a module changes.

    Attributes:
        weight: The matrix; None when none was found that is certain.
        reason: Why there is none, as a sentence; empty when there is one.
        remark: What must be known about the match, as a sentence; mostly empty.
    """

    weight: Weight | None
    reason: str = ""
    remark: str = ""


class Matcher:
    """Finds matrices of one checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._config = checkpoint.config or {}
        self._base: Surroundings = surroundings(checkpoint)

    @property
    def base(self) -> Surroundings:
        """The tensors that are looked among."""
        return self._base

    @cached_property
    def layers(self) -> LayerNames:
        """The layers that hold a matrix."""
        found: set[str] = set()
        for name, stored in self._base.tensors.items():
            ending = next((ending for ending in ENDINGS if name.endswith(ending)), None)
            if ending is not None and len(stored.entry.shape) > 1:
                found.add(name.removesuffix(ending))
        return LayerNames(found)

    @cached_property
    def parameters(self) -> LayerNames:
        """Tensors that are no layer's `weight`, such as those that hold all experts of a layer."""
        tensors = self._base.tensors.items()
        return LayerNames(
            name
            for name, stored in tensors
            if stored.entry.dtype in FLOATING and len(stored.entry.shape) > 1 and not name.endswith(ENDINGS)
        )

    def match(self, module: LoraModule | str) -> Match:
        """The matrix of a module; its shape is held against it where it is known."""
        try:
            if isinstance(module, str):
                return self._by_name(module)
            found = self._expert(module) if module.expert is not None else self._by_name(module.name)
        except WeightFault as fault:
            return Match(None, fault.reason)
        if found.weight is not None and not found.weight.fits(module.shape):
            return Match(None, _misfit(found.weight, module.shape))
        return found

    def _by_name(self, name: str) -> Match:
        layer, rivals = self.layers.find(name)
        if layer is not None:
            return Match(weight_of(self._base, layer))
        if rivals:
            return Match(None, _ambiguous(name, rivals))
        parameter, rivals = self.parameters.find(name)
        if parameter is not None:
            return Match(plain_weight(self._base, parameter))
        if rivals:
            return Match(None, _ambiguous(name, rivals))
        tied = self._tied(name)
        return tied or Match(None, f"The base has no weight for {shown(name)}.")

    def _tied(self, name: str) -> Match | None:
        """The embedding, for an output layer that the config says has the same weight."""
        if name.rpartition(".")[2] != _HEAD or not says_tied(self._config):
            return None
        found = [layer for layer in self.layers.layers if layer.rpartition(".")[2] in _EMBEDDINGS]
        if len(found) != 1:
            return None
        weight = weight_of(self._base, found[0])
        remark = f"{shown(name)} has no weight of its own and is tied to {shown(weight.tensor)}, whose norms it has."
        return Match(weight, remark=remark)

    def _expert(self, module: LoraModule) -> Match:
        """One expert of the parameters that the module may be about: the only one that fits its shape."""
        expert = module.expert or 0
        names = module.parameters or (module.name.removesuffix(f"[{expert}]"),)
        found = [weight for name in names for weight in self._experts_called(name, expert)]
        fitting = [weight for weight in found if weight.fits(module.shape)]
        if len(fitting) == 1:
            return Match(fitting[0])
        if fitting:
            return Match(None, _ambiguous(module.name, [weight.tensor for weight in fitting]))
        if found:
            return Match(None, _misfit(found[0], module.shape))
        return Match(None, f"The base has no weight for {shown(module.name)}.")

    def _experts_called(self, name: str, expert: int) -> Iterator[Weight]:
        """The matrices of that number that a parameter, or the parameters of a module, may have."""
        parameter, rivals = self.parameters.find(name)
        if rivals:
            raise WeightFault(_ambiguous(name, rivals))
        if parameter is not None and len(self._base.tensors[parameter].entry.shape) == 3:
            yield plain_weight(self._base, parameter, row=expert)
            return
        owner, _, last = name.rpartition(".")
        if last in _EXPERT_PARTS:
            yield from self._apart(owner, last, expert)
            return
        for last in _EXPERT_PARTS:
            yield from self._experts_called(f"{name}.{last}", expert)

    def _apart(self, owner: str, last: str, expert: int) -> Iterator[Weight]:
        """An expert whose parts are layers of their own, one below the other as the model joins them."""
        for mine, theirs in _EXPERT_FOLDERS:
            for parts in _EXPERT_PARTS[last]:
                at = f"{owner}.{expert}".replace(mine, theirs) if mine else f"{owner}.{expert}"
                found = [self.layers.find(f"{at}.{part}").layer for part in parts]
                layers = [layer for layer in found if layer is not None]
                if len(layers) == len(parts):
                    yield stacked([weight_of(self._base, layer) for layer in layers])
                    return


def stacked(weights: Sequence[Weight]) -> Weight:
    """Matrices one below the other; one alone as it is.

    Raises:
        WeightFault: Their widths differ.
    """
    first = weights[0]
    if len(weights) == 1:
        return first
    if len({weight.shape[1] for weight in weights}) > 1 or len({weight.quantization for weight in weights}) > 1:
        raise WeightFault(f"The base's {shown(first.tensor)} and what belongs beside it do not fit together.")
    shape = (sum(weight.shape[0] for weight in weights), first.shape[1])
    parts = tuple(part for weight in weights for part in weight.parts)
    names = " and ".join(shown(weight.tensor) for weight in weights[1:])
    return Weight(first.tensor, shape, first.quantization, parts, partial(_stack, weights), f"with {names}")


def _stack(weights: Sequence[Weight]) -> MatrixRows:
    opened = [weight.open() for weight in weights]
    return StackedRows(opened)


def says_tied(config: Mapping[str, Any]) -> bool:
    """Whether a model's config says that embedding and output layer share their weight."""
    nested = config.get("text_config")
    inner = cast("dict[str, Any]", nested) if isinstance(nested, dict) else {}
    return config.get("tie_word_embeddings", inner.get("tie_word_embeddings")) is True


def _ambiguous(name: str, rivals: Sequence[str]) -> str:
    listed = ", ".join(shown(rival) for rival in rivals[:3])
    return f"The base has {len(rivals):,} weights that may be meant by {shown(name)}: {listed}."


def _misfit(weight: Weight, shape: tuple[int, int]) -> str:
    sizes = [" x ".join(map(str, size)) for size in (weight.shape, shape)]
    return f"The base's {shown(weight.tensor)} is {sizes[0]}, and the adapter changes a weight of {sizes[1]}."
