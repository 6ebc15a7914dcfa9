"""AWQ: W[i, o] = scales[g, o] · (q[i, o] - z[g, o]) over inputs i and outputs o, g = i // group size, 4 bits.

qweight (in, out / 8) and qzeros (groups, out / 8) hold eight codes a 32-bit word along the outputs, the k-th from the
low end being that of output 8 · word + (0, 2, 4, 6, 1, 3, 5, 7)[k]. Format: AutoAWQ, the `gemm` version.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.base_weights.checkpoint import Stored
from gradience_analysis.base_weights.quantized.bitsandbytes_4bit import read_vector
from gradience_analysis.base_weights.quantized.gptq import read_words
from gradience_analysis.base_weights.streaming import MatrixRows, TensorBytes
from gradience_analysis.base_weights.weight import Surroundings, Weight, WeightFault, part_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WORD = frozenset({"I32"})
_FLOATING = frozenset({"F32", "F16", "BF16"})
_PER_WORD = 8
# Where the code of output 0, 1, 2 … 7 of a word lies, counted in fours of bits from its low end.
_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)


def find(base: Surroundings, layer: str) -> Weight | None:
    """The layer's weight, where it is packed so.

    Raises:
        WeightFault: It is, but its tensors do not fit together, or are of another version than `gemm`.
    """
    packed, scales = base.tensors.get(f"{layer}.qweight"), base.tensors.get(f"{layer}.scales")
    if packed is None or scales is None or len(packed.entry.shape) != 2 or len(scales.entry.shape) != 2:
        return None
    inputs, words = packed.entry.shape
    groups, outputs = scales.entry.shape
    if words * _PER_WORD != outputs:
        return None
    packed = part_of(base.tensors, f"{layer}.qweight", _WORD, 2)
    scales = part_of(base.tensors, f"{layer}.scales", _FLOATING, 2)
    zeros = part_of(base.tensors, f"{layer}.qzeros", _WORD, 2)
    version = str(base.settings.get("version", "gemm")).lower()
    if version != "gemm":
        raise WeightFault(f"The base is packed as AWQ {shown(version)}, which is not read here.")
    if zeros.entry.shape != (groups, words) or not groups or inputs % groups:
        raise WeightFault(f"The parts of the base's {shown(layer)} do not fit together as AWQ packs them.")
    parts = (packed, zeros, scales)
    return Weight(f"{layer}.qweight", (outputs, inputs), "awq-4bit", parts, partial(AwqRows, (inputs, outputs), parts))


class AwqRows(MatrixRows):
    """The rows of such a weight: its inputs."""

    transposed = True

    def __init__(self, shape: tuple[int, int], parts: tuple[Stored, ...]) -> None:
        self.shape = shape
        self._words = TensorBytes(parts[0])
        self._parts = parts
        self._groups: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def chunks(self) -> Iterator[NDArray[Any]]:
        """See MatrixRows."""
        inputs, outputs = self.shape
        if self._groups is None:
            scales = read_vector(self._parts[2]).reshape(-1, outputs)
            zeros = unpack_outputs(read_words(self._parts[1]).reshape(len(scales), -1))
            self._groups = scales, scales * zeros
        scales, shifts = self._groups
        size = inputs // len(scales)
        step = self.rows_per_chunk()
        for row in range(0, inputs, step):
            last = min(row + step, inputs)
            begin, end = (place * outputs // 2 for place in (row, last))
            values = unpack_outputs(self._words.take(begin, end).view("<u4").reshape(last - row, -1))
            groups = np.arange(row, last) // size
            one = slice(groups[0], groups[0] + 1) if groups[0] == groups[-1] else groups
            values *= scales[one]
            values -= shifts[one]
            yield values
            self._words.done(end)

    def close(self) -> None:
        """See MatrixRows."""
        self._words.close()


def unpack_outputs(words: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Codes of outputs, in order: (k, words) to (k, words · 8)."""
    codes = np.empty((*words.shape, _PER_WORD), dtype=np.float32)
    for output, place in enumerate(_PLACES):
        codes[:, :, output] = ((words >> (4 * place)) & 0xF).view(np.int32)
    return codes.reshape(len(words), -1)
