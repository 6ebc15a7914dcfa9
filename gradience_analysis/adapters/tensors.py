"""Tensors of a safetensors file as numpy arrays: mapped, decoded on demand, a piece at a time.

bfloat16 and the 8-bit formats have no numpy type of their own and are decoded by their bits.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from gradience_analysis.adapters.dtypes import BITS, FLOATING
from gradience_analysis.adapters.header import Header, TensorEntry, parse_header
from gradience_analysis.adapters.opening import open_plain, unreadable
from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Precision = Literal["float32", "float64"]
PIECE_BYTES = 4 << 20
_BEHIND = 2 << 20
# Integer type of the same width, bits without the sign, and the smallest such value that is no finite number.
_LAYOUTS: Mapping[str, tuple[str, int, int]] = {
    "F64": ("<u8", 0x7FFF_FFFF_FFFF_FFFF, 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7FFF_FFFF, 0x7F80_0000),
    "F16": ("<u2", 0x7FFF, 0x7C00),
    "BF16": ("<u2", 0x7FFF, 0x7F80),
    "F8_E5M2": ("<u1", 0x7F, 0x7C),
    "F8_E4M3": ("<u1", 0x7F, 0x7F),
}
_INTEGERS: Mapping[str, str] = {
    "BOOL": "<u1",
    "U8": "<u1",
    "I8": "<i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
}
_MANTISSA_BITS = {"F8_E4M3": 3, "F8_E5M2": 2}


class TensorDtypeError(InputError):
    """A tensor in a number format that is known, but not decoded here.

    Attributes:
        tensor: Its name.
        dtype: Its number format.
    """

    def __init__(self, path: str, entry: TensorEntry) -> None:
        message = f"holds {shown(entry.name)} as {entry.dtype}, which is not decoded here."
        super().__init__(path, message, f"Save it as one of {', '.join(sorted(FLOATING))}.")
        self.tensor = entry.name
        self.dtype = entry.dtype


@dataclass(frozen=True, slots=True)
class TensorExtremes:
    """What one pass over the bits of a tensor tells.

    Attributes:
        elements: Number of elements.
        nonfinite: Elements that are NaN or infinite.
        first_nonfinite: Place of the first of them in the flattened tensor; None without one.
        largest: Largest magnitude of the finite elements; 0.0 when all are zero or there are none.
    """

    elements: int
    nonfinite: int
    first_nonfinite: int | None
    largest: float


class SafetensorsFile:
    """A safetensors file, opened for reading; use it as a context manager.

    Its header is checked before anything else. The file must not change while it is open.

    Attributes:
        path: The path as it was given.
        header: The checked header.

    Raises:
        HeaderError: The file is no sound safetensors file.
        InputError: It cannot be opened, or is no regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_plain(path) as file:
            self.header: Header = parse_header(file, str(path))
            try:
                self._map = mmap.mmap(file.fileno(), self.header.file_size, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise unreadable(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the mapping back; arrays that were decoded stay valid."""
        try:
            self._map.close()
        except BufferError:
            # A traceback still holds a piece; the mapping goes with the last of them.
            return

    def array(self, name: str, precision: Precision = "float64") -> NDArray[np.floating[Any]]:
        """A tensor, decoded, in its shape.

        Args:
            name: A key of `header.tensors`.
            precision: float32 holds every format but F64 exactly.

        Raises:
            KeyError: There is no tensor of that name.
            TensorDtypeError: Its format is not decoded here.
        """
        import numpy as np

        entry = self.header.tensors[name]
        out = np.empty(entry.elements, dtype=precision)
        place = 0
        with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
            for raw in self._raw_pieces(entry):
                _decode_into(raw, entry.dtype, out[place : place + raw.size])
                place += raw.size
        return out.reshape(entry.shape)

    def extremes(self, name: str) -> TensorExtremes:
        """How many elements are not finite, and the largest magnitude of the others.

        Raises:
            KeyError: There is no tensor of that name.
            TensorDtypeError: Its format is not decoded here.
        """
        import numpy as np

        entry = self.header.tensors[name]
        layout = _LAYOUTS.get(entry.dtype)
        place = nonfinite = 0
        first: int | None = None
        largest = 0.0
        for raw in self._raw_pieces(entry):
            if layout is None:
                largest = max(largest, float(np.abs(raw.astype(np.float64)).max()))
                continue
            # Without its sign, a floating-point number is ordered as its bits are: one pass tells both.
            bits = raw & layout[1]
            peak = int(bits.max())
            if peak >= layout[2]:
                bad = bits >= layout[2]
                if first is None:
                    first = place + int(bad.argmax())
                nonfinite += int(bad.sum())
                finite = bits[~bad]
                peak = int(finite.max()) if finite.size else 0
            largest = max(largest, float(_decode(np.array([peak], dtype=layout[0]), entry.dtype)[0]))
            place += raw.size
        return TensorExtremes(entry.elements, nonfinite, first, largest)

    def _raw_pieces(self, entry: TensorEntry) -> Iterator[NDArray[Any]]:
        import numpy as np

        layout = _LAYOUTS.get(entry.dtype)
        kind = layout[0] if layout else _INTEGERS.get(entry.dtype)
        if kind is None:
            raise TensorDtypeError(str(self.path), entry)
        width = BITS[entry.dtype] // 8
        step = PIECE_BYTES // width
        start = self.header.data_start + entry.begin
        for place in range(0, entry.elements, step):
            count = min(step, entry.elements - place)
            piece = np.frombuffer(self._map, dtype=kind, count=count, offset=start + place * width)
            yield piece
            del piece
            self._release(start + place * width, count * width)

    def _release(self, start: int, size: int) -> None:
        if not hasattr(mmap, "MADV_DONTNEED"):  # pragma: no cover - not on every system
            return
        # With a page that is asked for, the system maps its neighbours, which may have been given back already.
        first = max(0, start - _BEHIND) // mmap.PAGESIZE * mmap.PAGESIZE
        length = (start + size) // mmap.PAGESIZE * mmap.PAGESIZE - first
        if length > 0:
            self._map.madvise(mmap.MADV_DONTNEED, first, length)


def _decode_into(raw: NDArray[Any], dtype: str, out: NDArray[Any]) -> None:
    """The same into an array of float32 or float64, without a copy in between where the format has no numpy type."""
    import numpy as np

    if dtype == "BF16" and out.dtype == np.float32:
        # The bits of a bfloat16 are the upper half of those of the same float32.
        bits = out.view(np.uint32)
        bits[:] = raw
        bits <<= 16
    elif dtype in _MANTISSA_BITS and out.dtype == np.float32:
        np.take(_values(dtype), raw, out=out, mode="clip")  # the other modes copy `out` first
    else:
        out[:] = _decode(raw, dtype)


def _decode(raw: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Elements in their bits to numbers, without a loss; integers stay as they are."""
    if dtype == "BF16":
        return (raw.astype("<u4") << 16).view("<f4")
    if dtype in _MANTISSA_BITS:
        decoded: NDArray[Any] = _values(dtype)[raw]
        return decoded
    if dtype in {"F64", "F32", "F16"}:
        return raw.view(f"<f{BITS[dtype] // 8}")
    return raw


@cache
def _values(dtype: str) -> NDArray[np.float32]:
    import numpy as np

    return np.asarray(_table(dtype), dtype=np.float32)


def _table(dtype: str) -> tuple[float, ...]:
    """The 256 values of an 8-bit format: sign, exponent with its bias, mantissa (OCP 8-bit formats)."""
    mantissa_bits = _MANTISSA_BITS[dtype]
    bias = (1 << (6 - mantissa_bits)) - 1
    values: list[float] = []
    for code in range(128):
        exponent, mantissa = code >> mantissa_bits, code & ((1 << mantissa_bits) - 1)
        fraction = mantissa / (1 << mantissa_bits)
        value = math.ldexp(fraction, 1 - bias) if exponent == 0 else math.ldexp(1 + fraction, exponent - bias)
        if dtype == "F8_E5M2" and code >= _LAYOUTS[dtype][2]:
            value = math.nan if mantissa else math.inf
        elif dtype == "F8_E4M3" and code == _LAYOUTS[dtype][2]:
            value = math.nan
        values.append(value)
    return (*values, *(-value for value in values))
