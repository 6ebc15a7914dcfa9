"""GPTQ: W[i, o] = scales[g[i], o] · (q[i, o] - z[g[i], o]) over inputs i and outputs o, in groups of inputs.

Codes of 2, 3, 4 or 8 bits are packed along the inputs into the 32-bit words of qweight (in · bits / 32, out), from the
lowest bit up; zero points along the outputs into qzeros (groups, out · bits / 32). The first format stores z - 1, in as
many bits; `gptq_v2` stores z. `g_idx` (in,) names each input's group, so that inputs may be in any order (act-order).
Format: AutoGPTQ and GPTQModel, `pack` of their torch layers. Norms do not depend on the order of rows.
"""

from __future__ import annotations

import math
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

_WORD = frozenset({"I32"})
_FLOATING = frozenset({"F32", "F16", "BF16"})
_BITS = (2, 3, 4, 8)
_FORMATS = ("gptq", "gptq_v2")


def find(base: Surroundings, layer: str) -> Weight | None:
    """The layer's weight, where it is packed so.

    Raises:
        WeightFault: It is, but its tensors do not fit together.
    """
    packed, scales = base.tensors.get(f"{layer}.qweight"), base.tensors.get(f"{layer}.scales")
    if packed is None or scales is None or packed.entry.shape[1:] != scales.entry.shape[1:]:
        return None
    packed = part_of(base.tensors, f"{layer}.qweight", _WORD, 2)
    scales = part_of(base.tensors, f"{layer}.scales", _FLOATING, 2)
    zeros = part_of(base.tensors, f"{layer}.qzeros", _WORD, 2)
    words, outputs = packed.entry.shape
    groups, zero_words = zeros.entry.shape
    bits = next((bits for bits in _BITS if zero_words * 32 == outputs * bits), 0)
    version = base.settings.get("checkpoint_format", "gptq")
    if not bits or scales.entry.shape != (groups, outputs) or words * 32 % bits or not groups or not words:
        raise WeightFault(f"The parts of the base's {shown(layer)} do not fit together as GPTQ packs them.")
    if not base.settings_known:
        reason = "config.json cannot be read, and it says in which of two ways the zero points of GPTQ are stored."
        raise WeightFault(f"The base's {reason}")
    if version not in _FORMATS:
        raise WeightFault(f"The base is packed as {shown(str(version))}, which is not read here.")
    inputs = words * 32 // bits
    parts = [packed, zeros, scales]
    if f"{layer}.g_idx" in base.tensors:
        order = part_of(base.tensors, f"{layer}.g_idx", _WORD, 1)
        if order.entry.elements != inputs:
            raise WeightFault(f"The base's {shown(layer)}.g_idx does not name a group for each of {inputs:,} inputs.")
        parts.append(order)
    elif inputs % groups:
        raise WeightFault(f"The base's {shown(layer)} has {groups:,} groups for {inputs:,} inputs.")
    rows = partial(GptqRows, (inputs, outputs), bits, tuple(parts), 0 if version == "gptq_v2" else 1)
    label = f"gptq-{bits}bit"
    return Weight(f"{layer}.qweight", (outputs, inputs), label, tuple(parts), rows)


class GptqRows(MatrixRows):
    """The rows of such a weight: its inputs."""

    transposed = True

    def __init__(self, shape: tuple[int, int], bits: int, parts: tuple[Stored, ...], zero_offset: int) -> None:
        self.shape = shape
        self._bits = bits
        self._words = TensorBytes(parts[0])
        self._parts = parts
        self._zero_offset = zero_offset
        self._groups: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.intp]] | None = None

    def chunks(self) -> Iterator[NDArray[Any]]:
        """See MatrixRows."""
        if self._groups is None:
            self._groups = self._read_groups()
        scales, shifts, group_of = self._groups
        inputs, outputs = self.shape
        step = self.rows_per_chunk(32)
        for row in range(0, inputs, step):
            last = min(row + step, inputs)
            begin, end = (place * self._bits // 32 * outputs * 4 for place in (row, last))
            words = self._words.take(begin, end).view("<u4").reshape(-1, outputs)
            values = unpack_words(words, self._bits)
            groups = group_of[row:last]
            one = slice(groups[0], groups[0] + 1) if (groups == groups[0]).all() else groups
            values *= scales[one]
            values -= shifts[one]
            yield values
            self._words.done(end)

    def close(self) -> None:
        """See MatrixRows."""
        self._words.close()

    def _read_groups(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.intp]]:
        """Scales and scaled zero points of each group, and the group of each input."""
        inputs, outputs = self.shape
        scales = read_vector(self._parts[2]).reshape(-1, outputs)
        words = read_words(self._parts[1]).reshape(len(scales), -1)
        zeros = np.mod(unpack_words(words.T, self._bits).T + self._zero_offset, 1 << self._bits)
        if len(self._parts) > 3:
            group_of = read_words(self._parts[3]).astype(np.intp)
            if group_of.size and group_of.max() >= len(scales):
                name = shown(self._parts[3].entry.name)
                raise WeightFault(f"The base's {name} names a group beyond the last of {len(scales):,}.")
        else:
            group_of = np.arange(inputs) // (inputs // len(scales))
        return scales, scales * zeros, group_of


def unpack_words(words: NDArray[np.uint32], bits: int) -> NDArray[np.float32]:
    """Codes that are packed down the rows: (words, k) to (words · 32 / bits, k), from the lowest bit up."""
    period = math.lcm(32, bits) // 32  # words after which a code begins with a word again: 3 for 3 bits, else 1
    places = 32 * period // bits
    codes = np.empty((len(words) // period, places, words.shape[1]), dtype=np.float32)
    parts = words.reshape(-1, period, words.shape[1])
    for place in range(places):
        word, shift = divmod(place * bits, 32)
        code = parts[:, word] >> shift
        if shift + bits > 32:
            code |= parts[:, word + 1] << (32 - shift)
        code &= (1 << bits) - 1
        codes[:, place] = code.view(np.int32)
    return codes.reshape(-1, words.shape[1])


def read_words(stored: Stored) -> NDArray[np.uint32]:
    """A small tensor of 32-bit integers, flattened, by its bits."""
    raw = TensorBytes(stored)
    try:
        return raw.all().view("<u4").copy()
    finally:
        raw.close()
