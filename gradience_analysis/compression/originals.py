"""The tensors of an adapter for compression: as products, as bytes, and put back into their layout."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gradience_analysis.adapters.factors import Layout, TensorPlace
from gradience_analysis.adapters.header import TensorEntry
from gradience_analysis.adapters.opened import OpenedAdapter
from gradience_analysis.adapters.opening import open_plain, unreadable
from gradience_analysis.adapters.tensors import Precision, SafetensorsFile
from gradience_analysis.compression.layers import Layer

Array: TypeAlias = NDArray[np.floating[Any]]
Pair: TypeAlias = tuple[Array, Array]


class AdapterTensors:
    """The tensors of an opened adapter, decoded or as bytes; use it as a context manager.

    Attributes:
        entries: Name → what the header says of it.
    """

    def __init__(self, opened: OpenedAdapter) -> None:
        self._files: dict[str, SafetensorsFile] = {}
        self._maps: dict[str, mmap.mmap] = {}
        self._home: dict[str, str] = {}
        self.entries: dict[str, TensorEntry] = {}
        try:
            for path in opened.files:
                self._open(path)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the mappings back."""
        for file in self._files.values():
            file.close()
        for mapping in self._maps.values():
            try:
                mapping.close()
            except BufferError:
                # A view of it is still held; the mapping goes with the last of them.
                continue

    @property
    def metadata(self) -> dict[str, str]:
        """The strings of `__metadata__`, of all files; `format` is there in any case, since loaders ask for it."""
        found = {"format": "pt"}
        for file in self._files.values():
            found |= file.header.metadata
        return found

    def bytes(self, name: str) -> memoryview:
        """The elements of a tensor as they lie in the file."""
        entry, home = self.entries[name], self._home[name]
        start = self._files[home].header.data_start
        return memoryview(self._maps[home])[start + entry.begin : start + entry.end]

    def array(self, name: str, precision: Precision) -> Array:
        """A tensor, decoded, in its shape."""
        return self._files[self._home[name]].array(name, precision)

    def pairs(self, layer: Layer) -> list[Pair]:
        """The independent products of a layer as [(lora_A (r, n), lora_B (m, r))], not scaled.

        float64 where a factor is; float32 holds every other format exactly.
        """
        wide = "F64" in {layer.a.dtype, layer.b.dtype}
        precision: Precision = "float64" if wide else "float32"
        return split(
            layer.layout, self.array(layer.a.name, precision), self.array(layer.b.name, precision), layer.parts
        )

    def _open(self, path: Path) -> None:
        file = self._files[path.name] = SafetensorsFile(path)
        with open_plain(path) as raw:
            try:
                self._maps[path.name] = mmap.mmap(raw.fileno(), file.header.file_size, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise unreadable(path, error) from error
        for name, entry in file.header.tensors.items():
            self.entries[name] = entry
            self._home[name] = path.name


def split(layout: Layout, a: Array, b: Array, parts: int) -> list[Pair]:
    """The independent products that two tensors hold: of each expert, of each group, else one.

    Args:
        layout: How the tensors are laid out.
        a: lora_A: (r, n), of experts (r·E, n), of a convolution with its kernel.
        b: lora_B: (m, r), of experts (m, r·E), of a convolution (m, r/groups, 1, ...).
        parts: Number of experts or groups.
    """
    flat_a, flat_b = a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1)
    if parts == 1:
        return [(flat_a, flat_b)]
    if layout is Layout.EXPERTS:
        # Row e·r + k of A and column k·E + e of B belong to rank k of expert e.
        r = flat_a.shape[0] // parts
        return [(flat_a[e * r : (e + 1) * r], np.ascontiguousarray(flat_b[:, e::parts])) for e in range(parts)]
    return list(zip(np.split(flat_a, parts), np.split(flat_b, parts), strict=True))


def join(layout: Layout, pairs: Sequence[Pair], a: TensorPlace, b: TensorPlace) -> Pair:
    """The two tensors of a layout from its products, all of one rank: what `split` takes apart.

    Args:
        layout: How the tensors are laid out.
        pairs: (lora_A (k, n), lora_B (m, k)) of each expert or group.
        a: The tensor of lora_A at the old rank, for the dimensions behind the first.
        b: The tensor of lora_B, in the same way.
    """
    flat_a = np.concatenate([pair[0] for pair in pairs])
    if layout is Layout.EXPERTS:
        # (m, k, E): of each rank, the experts side by side.
        flat_b = np.stack([pair[1] for pair in pairs], axis=2).reshape(pairs[0][1].shape[0], -1)
    else:
        flat_b = np.concatenate([pair[1] for pair in pairs])
    return flat_a.reshape(-1, *a.shape[1:]), flat_b.reshape(*flat_b.shape, *b.shape[2:])
