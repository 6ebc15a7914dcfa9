"""bitsandbytes LLM.int8(): W = weight · SCB[:, None] / 127, one scale an output. Format: bitsandbytes, Linear8bitLt."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.base_weights.checkpoint import Stored
from gradience_analysis.base_weights.quantized.bitsandbytes_4bit import read_vector
from gradience_analysis.base_weights.streaming import MatrixRows, TensorBytes
from gradience_analysis.base_weights.weight import Surroundings, Weight, WeightFault, part_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST = np.float32(127)
_FLOATING = frozenset({"F32", "F16", "BF16"})


def find(base: Surroundings, layer: str) -> Weight | None:
    """The layer's weight, where it is packed so.

    Raises:
        WeightFault: It is, but its tensors do not fit together, or lie in a tiled order.
    """
    weight = f"{layer}.weight"
    scales = next((name for name in (f"{layer}.SCB", f"{weight}.SCB") if name in base.tensors), None)
    if scales is None or weight not in base.tensors:
        return None
    codes = part_of(base.tensors, weight, frozenset({"I8"}), 2)
    scale = part_of(base.tensors, scales, _FLOATING, 1)
    rows, columns = codes.entry.shape
    if scale.entry.elements != rows:
        raise WeightFault(f"The base's {shown(scales)} has not one scale for each of {rows:,} outputs.")
    parts: tuple[Stored, ...] = (codes, scale)
    order = base.tensors.get(f"{layer}.weight_format")
    if order is not None:
        if read_order(order) != 0:
            raise WeightFault(f"The base holds {shown(weight)} in a tiled order of int8, which is not read here.")
        parts = (*parts, order)
    return Weight(weight, (rows, columns), "bnb-int8", parts, partial(EightBitRows, codes, scale))


def read_order(stored: Stored) -> int:
    """What `weight_format` says: 0 for rows; -1 for anything that is no single number from 0 to 255."""
    if stored.entry.elements != 1 or stored.entry.dtype not in {"U8", "I8"}:
        return -1
    raw = TensorBytes(stored)
    try:
        return int(raw.all()[0])
    finally:
        raw.close()


class EightBitRows(MatrixRows):
    """The rows of such a weight."""

    def __init__(self, codes: Stored, scales: Stored) -> None:
        rows, columns = codes.entry.shape
        self.shape = (rows, columns)
        self._codes = TensorBytes(codes)
        self._stored_scales = scales
        self._scales: NDArray[np.float32] | None = None

    def chunks(self) -> Iterator[NDArray[Any]]:
        """See MatrixRows."""
        if self._scales is None:
            self._scales = read_vector(self._stored_scales) / _LARGEST
        rows, columns = self.shape
        step = self.rows_per_chunk()
        for row in range(0, rows, step):
            last = min(row + step, rows)
            raw = self._codes.take(row * columns, last * columns).view(np.int8).reshape(-1, columns)
            yield np.multiply(raw, self._scales[row:last, None], dtype=np.float32)
            self._codes.done(last * columns)

    def close(self) -> None:
        """See MatrixRows."""
        self._codes.close()
