"""8-bit floating point with scales: W = value · scale, one scale for all, for each output, or for each block.

The scales are `weight_scale` (compressed-tensors, FBGEMM), `weight_scale_inv` (block-wise, as DeepSeek publishes its
models) or `scale_weight` (ComfyUI); each is multiplied. Of blocks of h rows and w columns, scale [i, j] belongs to rows
i·h to (i+1)·h and columns j·w to (j+1)·w; (h, w) is `weight_block_size`, else 128 by 128.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.base_weights.checkpoint import Stored
from gradience_analysis.base_weights.quantized.bitsandbytes_4bit import read_vector
from gradience_analysis.base_weights.streaming import DenseRows, MatrixRows
from gradience_analysis.base_weights.weight import Surroundings, Weight, WeightFault

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EIGHT_BITS = frozenset({"F8_E4M3", "F8_E5M2"})
_FLOATING = frozenset({"F32", "F16", "BF16"})
_SCALES = ("weight_scale_inv", "weight_scale", "scale_weight")
_USUAL_BLOCK = (128, 128)


def find(base: Surroundings, layer: str) -> Weight | None:
    """The layer's weight, where it is packed so.

    Raises:
        WeightFault: It is, but the scales that the config promises are missing, or do not fit it.
    """
    stored = base.tensors.get(f"{layer}.weight")
    if stored is None or stored.entry.dtype not in _EIGHT_BITS or len(stored.entry.shape) != 2:
        return None
    names = [name for name in (f"{layer}.{scale}" for scale in _SCALES) if name in base.tensors]
    if not names and "quant_method" not in base.settings:
        return None  # plain numbers that were cast to 8 bits
    if len(names) != 1:
        raise WeightFault(f"The base holds {shown(stored.entry.name)} in 8 bits without one tensor of scales for it.")
    scales = base.tensors[names[0]]
    rows, columns = stored.entry.shape
    tiles = scale_grid(scales, (rows, columns), block_size(base))
    if tiles is None or scales.entry.dtype not in _FLOATING:
        raise WeightFault(f"The base's {shown(names[0])} does not fit the weight that it scales.")
    opened = partial(ScaledRows, stored, scales, tiles)
    return Weight(stored.entry.name, (rows, columns), "fp8", (stored, scales), opened)


def block_size(base: Surroundings) -> tuple[int, int]:
    """Rows and columns that share a scale, as config.json says; 128 each where it does not."""
    value = base.settings.get("weight_block_size")
    items = cast("list[object]", value) if isinstance(value, list) else []
    sizes = [item for item in items if type(item) is int and item > 0]
    return (sizes[0], sizes[1]) if len(sizes) == 2 == len(items) else _USUAL_BLOCK


def scale_grid(scales: Stored, shape: tuple[int, int], block: tuple[int, int]) -> tuple[int, int] | None:
    """Rows and columns that one scale covers; None where the scales fit neither way."""
    rows, columns = shape
    found = scales.entry.shape
    if scales.entry.elements == 1:
        return shape
    if found in {(rows, 1), (rows,)}:
        return 1, columns
    return block if found == (-(-rows // block[0]), -(-columns // block[1])) else None


class ScaledRows(MatrixRows):
    """The rows of such a weight."""

    def __init__(self, stored: Stored, scales: Stored, tile: tuple[int, int]) -> None:
        rows, columns = stored.entry.shape
        self.shape = (rows, columns)
        self._values = DenseRows(stored, self.shape)
        self._stored_scales = scales
        self._tile = tile
        self._scales: NDArray[np.float32] | None = None

    def chunks(self) -> Iterator[NDArray[Any]]:
        """See MatrixRows."""
        height, width = self._tile
        if self._scales is None:
            self._scales = read_vector(self._stored_scales).reshape(-(-self.shape[0] // height), -1)
        row = 0
        for chunk in self._values.chunks():
            scales = self._scales[np.arange(row, row + len(chunk)) // height]
            if self.shape[1] % width:
                np.multiply(chunk, np.repeat(scales, width, axis=1)[:, : self.shape[1]], out=chunk)
            else:
                tiles = chunk.reshape(len(chunk), -1, width)
                tiles *= scales[:, :, None]
            yield chunk
            row += len(chunk)

    def close(self) -> None:
        """See MatrixRows."""
        self._values.close()
