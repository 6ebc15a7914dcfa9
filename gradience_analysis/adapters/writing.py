"""Writing a safetensors file: checked, laid out as the safetensors library does it, and in place only when it is whole.

The header is padded with spaces to a multiple of 8 bytes and the tensors go by number format, the widest first, then by
name: each starts at a multiple of its element's size, and the same tensors give the same bytes in any order.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from gradience_analysis.adapters.dtypes import BITS
from gradience_analysis.adapters.header import MAX_DIMENSIONS, MAX_HEADER_BYTES, MAX_TENSORS
from gradience_analysis.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_METADATA = "__metadata__"
_ALIGNMENT = 8
# The order of the library: of two formats of one width, too, one always comes first.
_ORDER = {dtype: place for place, dtype in enumerate(BITS)}
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


@dataclass(frozen=True, slots=True)
class NewTensor:
    """One tensor to be written.

    Attributes:
        dtype: Name of its number format, a key of `dtypes.BITS`.
        shape: Its dimensions; empty for a scalar.
        data: Its elements in C order: bytes in little endian as they go to the file, or an array whose elements have
            the format's width (BF16 as 16-bit integers), of any memory layout and byte order.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview | NDArray[Any]


def write_safetensors(
    path: Path, tensors: Mapping[str, NewTensor], metadata: Mapping[str, str] | None = None, *, replace: bool = False
) -> None:
    """Write tensors to a safetensors file: first aside in the same folder, then renamed, so that nobody sees a part.

    Args:
        path: The file to make. Its folder must exist.
        tensors: What it is to hold, by name; none is allowed.
        metadata: The strings of `__metadata__`; None leaves it out.
        replace: Whether a file of that name may be replaced.

    Raises:
        InputError: The file exists already, cannot be written, or would be beyond what `read_header` accepts (a header
            of 8 MiB, 100,000 tensors).
        ValueError: A tensor is not what it says: an unknown format, a shape that its bytes do not fill, or a name that
            cannot stand in a header.
    """
    if not replace and os.path.lexists(path):
        raise _exists(path)
    if len(tensors) > MAX_TENSORS:
        raise InputError(str(path), f"would hold {len(tensors):,} tensors; {MAX_TENSORS:,} are accepted.")
    ordered = sorted(tensors.items(), key=lambda item: (-_place(*item), item[0]))
    pieces = [_bytes(name, tensor) for name, tensor in ordered]
    head = _header(ordered, pieces, metadata)
    if len(head) > MAX_HEADER_BYTES:
        raise InputError(str(path), f"would have a header of {len(head):,} bytes; {MAX_HEADER_BYTES:,} are accepted.")
    aside = path.with_name(f".gradience-{secrets.token_hex(8)}.new")
    try:
        try:
            with _created(aside) as file:
                file.write(len(head).to_bytes(8, "little") + head)
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            put_in_place(aside, path, replace=replace)
        finally:
            aside.unlink(missing_ok=True)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(
            str(path), f"cannot be written: {reason}.", "Give a place with room that can be written."
        ) from (error)


def encode_array(values: NDArray[np.floating[Any]], dtype: str) -> NewTensor:
    """Numbers in another format, rounded once, to nearest, ties to even, as IEEE 754 and torch do.

    A magnitude beyond the format's range becomes infinity of the same sign: from 65,520 in F16, from about 3.396e38 in
    BF16 and 3.403e38 in F32. Below its range it becomes subnormal, then a zero of the same sign. NaN stays NaN.
    float64 goes to BF16 without a stop at float32, which torch makes: at a tie of the second rounding torch may be one
    unit off.

    Args:
        values: float64, float32 or float16, of any shape.
        dtype: F64, F32, F16 or BF16.

    Raises:
        ValueError: The format is another, or the values are no such numbers.
    """
    import numpy as np

    if values.dtype.kind != "f" or values.dtype.itemsize > 8:
        raise ValueError(f"values must be float64, float32 or float16, not {values.dtype}")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if dtype == "BF16":
            return NewTensor(dtype, values.shape, _bfloat16(values))
        if dtype not in _NUMPY:
            raise ValueError(f"dtype must be F64, F32, F16 or BF16, not {dtype!r}")
        return NewTensor(dtype, values.shape, values.astype(_NUMPY[dtype]))


def put_in_place(aside: Path, path: Path, *, replace: bool = False) -> None:
    """Give a finished file of the same file system its name; without `replace`, never that of another.

    Args:
        aside: The finished file. It may stay where it is, under a second name: remove it afterwards.
        path: The name it is to have.
        replace: Whether a file of that name may be replaced.

    Raises:
        FileExistsError: There is a file of that name, whoever made it and when.
        OSError: The system refuses.
    """
    if replace:
        aside.replace(path)
    else:
        try:
            os.link(aside, path, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links: claim the name, then replace what was claimed.
            _created(path).close()
            aside.replace(path)
    if hasattr(os, "O_DIRECTORY"):
        with suppress(OSError):
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _bfloat16(values: NDArray[Any]) -> NDArray[Any]:
    """The upper half of float32, rounded; as 16-bit integers."""
    import numpy as np

    single = np.atleast_1d(np.ascontiguousarray(values, dtype="<f4"))
    bits = single.view("<u4")
    if values.dtype.itemsize > 4:
        wide = np.atleast_1d(values)
        # Rounding to odd keeps in the last bit that something was cut off, so that the next rounding is the only one.
        odd = (bits - (np.abs(single) > np.abs(wide))) | 1
        bits = np.where((single == wide) | np.isnan(wide), bits, odd)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    # Rounding could carry a NaN's payload over: any NaN becomes the quiet one of its sign.
    quiet = ((bits >> 16) & 0x8000) | 0x7FC0
    found: NDArray[Any] = np.where(np.isnan(single), quiet, rounded).astype("<u2")
    return found.reshape(values.shape)


def _place(name: str, tensor: NewTensor) -> int:
    if tensor.dtype not in _ORDER:
        raise ValueError(f"{name!r} has the unknown dtype {tensor.dtype!r}")
    return _ORDER[tensor.dtype]


def _bytes(name: str, tensor: NewTensor) -> bytes | memoryview:
    """The elements as they go to the file, checked against the shape."""
    if name == _METADATA:
        raise ValueError(f"{name} is no name for a tensor")
    if len(tensor.shape) > MAX_DIMENSIONS or min(tensor.shape, default=0) < 0:
        raise ValueError(f"{name!r} has the shape {tensor.shape}, which is none")
    wanted, rest = divmod(math.prod(tensor.shape) * BITS[tensor.dtype], 8)
    data = tensor.data
    raw = data if isinstance(data, bytes) else _flat(data)
    size = len(raw)
    if rest or size != wanted:
        raise ValueError(f"{name!r} has {size:,} bytes, but {tensor.dtype} of shape {tensor.shape} takes {wanted:,}")
    return raw


def _flat(data: memoryview | NDArray[Any]) -> bytes | memoryview:
    if not isinstance(data, memoryview) and data.dtype.byteorder == ">":
        data = data.byteswap()
    view = memoryview(cast("memoryview", data))
    # A view without elements cannot be cast, and one with gaps has to be copied.
    return view.cast("B") if view.nbytes and view.c_contiguous else view.tobytes()


def _header(
    ordered: list[tuple[str, NewTensor]], pieces: list[bytes | memoryview], metadata: Mapping[str, str] | None
) -> bytes:
    entries: dict[str, Any] = {} if metadata is None else {_METADATA: dict(metadata)}
    place = 0
    for (name, tensor), piece in zip(ordered, pieces, strict=True):
        end = place + len(piece)
        entries[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % _ALIGNMENT)


def _created(path: Path) -> IO[bytes]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), "wb")


def _exists(path: Path) -> InputError:
    return InputError(str(path), "exists already.", "Give another name, or remove it first.")
