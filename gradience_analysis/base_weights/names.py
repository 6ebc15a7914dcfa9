"""Finding a layer of a base model by the name that an adapter has for it.

An adapter names its modules as the model in memory did (`model.layers.0.self_attn.q_proj`); the files of the base may
put other prefixes before the same layer (`layers.0…`, `language_model.model.layers.0…`, `transformer.h.0…`). So the
first parts of the name are taken off one by one until a layer ends like the rest, and never so many that the rest no
longer says which layer it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Found(NamedTuple):
    """Where a name led.

    Attributes:
        layer: The one layer that goes by the name; None when there is none, or more than one.
        rivals: The layers that go by it alike, where there is more than one.
    """

    layer: str | None
    rivals: tuple[str, ...] = ()


class LayerNames:
    """The layers of a base model, found by the end of their names: prefixes differ between checkpoints.

    Attributes:
        layers: The names, without `.weight`.
    """

    def __init__(self, layers: Iterable[str]) -> None:
        self.layers = frozenset(layers)
        self._by_ending: dict[str, list[str]] = defaultdict(list)
        for layer in sorted(self.layers):
            for ending in endings(layer):
                self._by_ending[ending].append(layer)
        self._last = {layer.rpartition(".")[2] for layer in self.layers}

    def find(self, module: str) -> Found:
        """The layer of that name, else the one that shares its longest ending.

        Several that share it are rivals, and none of them is taken, but for one that has all the parts of the name,
        only in another order (`model.language_model.layers.0` and `language_model.model.layers.0`).
        """
        for ending in endings(module):
            if ending in self.layers:
                return Found(ending)
            layers = self._by_ending.get(ending, [])
            if len(layers) > 1:
                parts = sorted(module.split("."))
                layers = [layer for layer in layers if sorted(layer.split(".")) == parts] or layers
            if layers:
                return Found(layers[0]) if len(layers) == 1 else Found(None, tuple(layers))
        return Found(None)

    def has_siblings(self, module: str) -> bool:
        """Whether the base has layers of the same last name, so that this one should be among them."""
        return module.rpartition(".")[2] in self._last


def endings(name: str) -> Iterator[str]:
    """The name, and what is left when its first parts are taken off one by one, as far as it still says which layer."""
    yield name
    while "." in name:
        first, _, name = name.partition(".")
        if first.isdigit() or "." not in name:
            return
        yield name
