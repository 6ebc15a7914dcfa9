"""bitsandbytes NF4 and FP4: 16 code values, one scale per block of the flattened weight.

W[i] = quant_map[code[i]] · absmax[i // blocksize], two codes a byte, the first in the high half. Where the scales are
packed themselves (double quantisation), absmax = nested_quant_map[absmax] · nested_absmax[block // nested_blocksize] +
nested_offset. The code values stand in the file. Format: bitsandbytes, `QuantState.as_dict` and `from_dict`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from gradience_analysis.adapters.strict_json import StrictJsonError, parse_object, shown
from gradience_analysis.base_weights.checkpoint import Stored
from gradience_analysis.base_weights.streaming import DenseRows, MatrixRows, TensorBytes
from gradience_analysis.base_weights.weight import Surroundings, Weight, WeightFault, part_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARKER = ".quant_state.bitsandbytes__"
_KINDS = ("nf4", "fp4")
_BYTE = frozenset({"U8"})
_FLOAT = frozenset({"F32"})
_MAX_STATE_BYTES = 1 << 16
_MAX_BLOCK = 1 << 16


class _State(NamedTuple):
    """What the packed JSON says."""

    shape: tuple[int, int]
    blocksize: int
    nested_blocksize: int
    nested_offset: float


def find(base: Surroundings, layer: str) -> Weight | None:
    """The layer's weight, where it is packed so.

    Raises:
        WeightFault: It is, but its tensors do not fit together.
    """
    weight = f"{layer}.weight"
    kind = next((kind for kind in _KINDS if f"{weight}{MARKER}{kind}" in base.tensors), None)
    packed = base.tensors.get(weight)
    if kind is None or packed is None:
        return None
    described = part_of(base.tensors, f"{weight}{MARKER}{kind}", _BYTE, 1)
    state = _state(described)
    codes = part_of(base.tensors, f"{weight}.quant_map", _FLOAT, 1)
    nested = f"{weight}.nested_absmax" in base.tensors
    scales = part_of(base.tensors, f"{weight}.absmax", _BYTE if nested else _FLOAT, 1)
    parts = [packed, described, codes, scales]
    if nested:
        parts.append(part_of(base.tensors, f"{weight}.nested_absmax", _FLOAT, 1))
        parts.append(part_of(base.tensors, f"{weight}.nested_quant_map", _FLOAT, 1))
    _refuse_misfits(weight, state, parts)
    rows = partial(FourBitRows, state, tuple(parts))
    return Weight(weight, state.shape, f"bnb-{kind}", tuple(parts), rows)


def _state(stored: Stored) -> _State:
    entry = stored.entry
    if entry.elements > _MAX_STATE_BYTES:
        raise WeightFault(f"The base's {shown(entry.name)} is larger than {_MAX_STATE_BYTES:,} bytes.")
    state = TensorBytes(stored)
    try:
        found = parse_object(state.all().tobytes())
    except StrictJsonError as error:
        raise WeightFault(f"The base's {shown(entry.name)} {error.message}.") from error
    finally:
        state.close()
    shape = _sizes(found.get("shape"))
    block, nested = _size(found, "blocksize"), _size(found, "nested_blocksize", 1)
    offset = found.get("nested_offset", 0.0)
    if shape is None or block is None or nested is None or isinstance(offset, bool | str):
        raise WeightFault(f"The base's {shown(entry.name)} does not say shape and block size as bitsandbytes does.")
    if not isinstance(offset, int | float):
        raise WeightFault(f"The base's {shown(entry.name)} has a nested_offset that is no number.")
    return _State((shape[0], math.prod(shape[1:])), block, nested, float(offset))


def _sizes(value: object) -> tuple[int, ...] | None:
    items = cast("list[object]", value) if isinstance(value, list) else []
    sizes = tuple(item for item in items if type(item) is int and item > 0)
    return sizes if len(sizes) == len(items) and len(sizes) > 1 else None


def _size(found: Mapping[str, Any], key: str, default: int | None = None) -> int | None:
    value = found.get(key, default)
    return value if type(value) is int and 0 < value <= _MAX_BLOCK else None


def _refuse_misfits(weight: str, state: _State, parts: list[Stored]) -> None:
    """Sizes must be those that the packed shape takes: nothing is read beyond what is there."""
    packed, _, codes, scales, *nested = (stored.entry for stored in parts)
    elements = math.prod(state.shape)
    blocks = -(-elements // state.blocksize)
    sound = packed.end - packed.begin == -(-elements // 2) and codes.elements == 16 and scales.elements == blocks
    if nested:
        sound = sound and nested[0].elements == -(-blocks // state.nested_blocksize) and nested[1].elements == 256
    if not sound:
        shape = " x ".join(map(str, state.shape))
        raise WeightFault(f"The parts of the base's {shown(weight)} do not have the sizes that {shape} takes.")


class FourBitRows(MatrixRows):
    """The rows of such a weight."""

    def __init__(self, state: _State, parts: tuple[Stored, ...]) -> None:
        self.shape = state.shape
        self._state = state
        self._packed = TensorBytes(parts[0])
        self._parts = parts
        self._scales: NDArray[np.float32] | None = None
        self._pairs: NDArray[np.uint64] | None = None

    def chunks(self) -> Iterator[NDArray[Any]]:
        """See MatrixRows."""
        if self._scales is None or self._pairs is None:
            self._scales, self._pairs = self._read_scales(), self._read_pairs()
        rows, columns = self.shape
        step = self.rows_per_chunk()
        for row in range(0, rows, step):
            first, last = row * columns, min(row + step, rows) * columns
            yield self._values(first, last, self._pairs, self._scales).reshape(-1, columns)
            self._packed.done(last // 2)

    def close(self) -> None:
        """See MatrixRows."""
        self._packed.close()

    def _values(
        self, first: int, last: int, pairs: NDArray[np.uint64], scales: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Elements `first` to `last` of the flattened weight; decoded from where a block and a byte begin."""
        block = self._state.blocksize
        unit = math.lcm(block, 2)
        start = first // unit * unit
        raw = self._packed.take(start // 2, (last + 1) // 2)
        values = np.take(pairs, raw).view(np.float32)
        whole = (last - start) // block * block
        blocks = values[:whole].reshape(-1, block)
        blocks *= scales[start // block :][: len(blocks), None]
        if start + whole < last:
            values[whole:] *= scales[(start + whole) // block]
        return values[first - start : last - start]

    def _read_pairs(self) -> NDArray[np.uint64]:
        """For each byte, both of its values side by side."""
        codes = read_vector(self._parts[2])
        byte = np.arange(256)
        pairs = np.stack([codes[byte >> 4], codes[byte & 0xF]], axis=1).astype(np.float32)
        return np.ascontiguousarray(pairs).view(np.uint64).reshape(256)

    def _read_scales(self) -> NDArray[np.float32]:
        scales = read_vector(self._parts[3])
        if len(self._parts) == 4:
            return scales
        outer, inner = read_vector(self._parts[4]), read_vector(self._parts[5])
        wide = np.repeat(outer, self._state.nested_blocksize)[: scales.size]
        return inner[scales.astype(np.intp)] * wide + np.float32(self._state.nested_offset)


def read_vector(stored: Stored) -> NDArray[np.float32]:
    """A small tensor, flattened, as float32; integers by their value."""
    if stored.entry.dtype == "U8":
        raw = TensorBytes(stored)
        try:
            return raw.all().astype(np.float32)
        finally:
            raw.close()
    rows = DenseRows(stored, (1, stored.entry.elements))
    try:
        return np.concatenate([chunk.astype(np.float32).ravel() for chunk in rows.chunks()])
    finally:
        rows.close()
