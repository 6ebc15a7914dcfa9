"""Numbers of a safetensors file to float32 by operations on their bits, without a loss, into a buffer that is reused.

numpy converts half precision one number at a time and knows neither bfloat16 nor 8-bit floats. A shorter float that is
shifted to where sign, exponent and mantissa of a float32 lie differs from its value by the ratio of the two exponent
biases alone, for subnormal numbers too, so that one multiplication by a power of two is exact. Only what is not finite
comes out wrong, and is put right where it occurs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradience_analysis.adapters.dtypes import BITS

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Layout(NamedTuple):
    """How a short float becomes a float32.

    Attributes:
        signed: The integer type of its width; widening it copies the sign into every upper bit.
        shift: Bits by which its exponent and mantissa are shifted.
        mask: What of the shifted bits counts: sign, exponent and mantissa.
        scale: What the float32 of these bits is multiplied by.
        first: The first bits without sign that are no finite number.
        infinite: Whether these are an infinity, as in IEEE formats, or NaN.
    """

    signed: str
    shift: int
    mask: int
    scale: float
    first: int
    infinite: bool


_LAYOUTS: Mapping[str, _Layout] = {
    "F16": _Layout("<i2", 13, 0x8FFFE000, 2.0**112, 0x7C00, True),
    "F8_E5M2": _Layout("<i1", 21, 0x8FE00000, 2.0**112, 0x7C, True),
    "F8_E4M3": _Layout("<i1", 20, 0x87F00000, 2.0**120, 0x7F, False),
}


class Decoder:
    """Decodes the bytes of a tensor, piece by piece.

    What it returns holds until the next piece: short formats are decoded into one buffer, and F32 and F64 are views of
    the bytes.

    Args:
        dtype: One of `adapters.dtypes.FLOATING`.
    """

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self._width = BITS[dtype] // 8
        self._buffer = np.empty(0, dtype="<i4")

    def decode(self, raw: NDArray[np.uint8]) -> NDArray[Any]:
        """The numbers in these bytes, flat: float64 of F64, float32 of every other format."""
        if self._width >= 4:
            return raw.view(f"<f{self._width}")
        count = raw.size // self._width
        if self._buffer.size < count:
            self._buffer = np.empty(count, dtype="<i4")
        bits = self._buffer[:count]
        if self._dtype == "BF16":
            np.copyto(bits, raw.view("<i2"))
            np.left_shift(bits, 16, out=bits)
            return bits.view("<f4")
        return _decode_short(raw, bits, _LAYOUTS[self._dtype])


def _decode_short(raw: NDArray[np.uint8], bits: NDArray[np.int32], layout: _Layout) -> NDArray[np.float32]:
    short = raw.view(layout.signed)
    np.copyto(bits, short)
    np.left_shift(bits, layout.shift, out=bits)
    np.bitwise_and(bits, np.uint32(layout.mask).view(np.int32), out=bits)
    values: NDArray[np.float32] = bits.view("<f4")
    values *= np.float32(layout.scale)
    unsigned = short & np.iinfo(short.dtype).max
    if unsigned.size and unsigned.max() >= layout.first:
        values[unsigned > layout.first] = np.nan
        special = unsigned == layout.first
        values[special] = np.copysign(np.float32(np.inf), values[special]) if layout.infinite else np.nan
    return values
