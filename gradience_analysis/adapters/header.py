"""The header of a safetensors file, parsed and checked before anything in the file is believed.

Format: 8 bytes, little endian, give the length of the header; then a JSON object, name → {dtype, shape, data_offsets},
with an optional `__metadata__` of strings; then the data, without a gap. This parser refuses everything that the
safetensors library refuses, and besides: repeated keys, headers above 8 MiB, more than 100,000 tensors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, cast

from gradience_analysis.adapters.dtypes import BITS
from gradience_analysis.adapters.opening import open_plain, unreadable
from gradience_analysis.adapters.strict_json import StrictJsonError, parse_object, shown
from gradience_analysis.errors import InputError

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 8 << 20
MAX_TENSORS = 100_000
MAX_DIMENSIONS = 32
_METADATA = "__metadata__"
_LARGEST = (1 << 64) - 1
_REMEDY = "Save it again with the safetensors library, or take a fresh copy."
_KEYS = frozenset({"dtype", "shape", "data_offsets"})
_PICKLED = ((b"PK\x03\x04", "a zip archive, as torch.save writes it"), (b"\x80", "a pickle"))


class HeaderError(InputError):
    """A safetensors file whose header cannot be believed.

    Attributes:
        code: What is wrong, as a slug: `too_short`, `over_cap`, `truncated`, `not_an_object`, `invalid_json`,
            `invalid_utf8`, `too_deep`, `duplicate_key`, `invalid_metadata`, `invalid_entry`, `unknown_dtype`,
            `overflow`, `size_mismatch`, `hole`, `overlap`, `trailing_bytes`.
        tensor: The tensor it is about; empty when it is about none.
    """

    def __init__(self, path: str, code: str, message: str, tensor: str = "") -> None:
        super().__init__(path, f"{message}.", _REMEDY)
        self.code = code
        self.tensor = tensor


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor as the header describes it.

    Attributes:
        name: Its key.
        dtype: Name of its number format, such as `BF16`.
        shape: Its dimensions; empty for a scalar.
        begin: First byte, counted from the start of the data.
        end: The byte after its last.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True, slots=True)
class Header:
    """A header that holds together with its file.

    Attributes:
        tensors: Every tensor by its name, in the order of the header.
        metadata: The strings of `__metadata__`.
        data_start: Byte of the file at which the data starts.
        file_size: Bytes of the file.
    """

    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]
    data_start: int
    file_size: int


def read_header(path: Path) -> Header:
    """The checked header of a file; its data is not read.

    Raises:
        HeaderError: The file is no sound safetensors file.
        InputError: It cannot be opened, or is no regular file.
    """
    with open_plain(path) as file:
        return parse_header(file, str(path))


def parse_header(file: IO[bytes], path: str) -> Header:
    """The same from an open file, whose position is left after the header.

    Raises:
        HeaderError: The file is no sound safetensors file.
        InputError: It cannot be read.
    """
    try:
        size = os.fstat(file.fileno()).st_size
        head = file.read(LENGTH_BYTES)
        length = _length(head, size, path)
        text = file.read(length)
    except OSError as error:
        raise unreadable(Path(path), error) from error
    if len(text) < length:
        raise HeaderError(path, "truncated", f"ends within its header of {length:,} bytes")
    if not text.startswith(b"{"):
        raise HeaderError(path, "not_an_object", "has a header that does not start with {")
    try:
        entries = parse_object(text)
    except StrictJsonError as error:
        raise HeaderError(path, error.code, f"has a header that {error.message}", error.key) from error
    metadata = _metadata(entries.pop(_METADATA, {}), path)
    if len(entries) > MAX_TENSORS:
        raise HeaderError(path, "over_cap", f"names {len(entries):,} tensors; {MAX_TENSORS:,} are accepted")
    tensors = {name: _entry(name, value, path) for name, value in entries.items()}
    start = LENGTH_BYTES + length
    _refuse_gaps(tensors, size - start, path)
    return Header(tensors, metadata, start, size)


def _length(head: bytes, size: int, path: str) -> int:
    if len(head) < LENGTH_BYTES:
        raise HeaderError(path, "too_short", f"has {size} bytes; the length of the header alone takes {LENGTH_BYTES}")
    length = int.from_bytes(head, "little")
    looks = next((f"; it starts like {what}" for magic, what in _PICKLED if head.startswith(magic)), "")
    if length > MAX_HEADER_BYTES:
        message = f"gives its header {length:,} bytes; {MAX_HEADER_BYTES:,} are accepted{looks}"
        raise HeaderError(path, "over_cap", message)
    if length > size - LENGTH_BYTES:
        raise HeaderError(path, "truncated", f"gives its header {length:,} bytes, more than the file has{looks}")
    return length


def _metadata(value: object, path: str) -> Mapping[str, str]:
    if isinstance(value, dict):
        found = cast("dict[str, object]", value)
        if all(isinstance(item, str) for item in found.values()):
            return cast("dict[str, str]", found)
    raise HeaderError(path, "invalid_metadata", "has a __metadata__ that is not an object of strings", _METADATA)


def _entry(name: str, value: Any, path: str) -> TensorEntry:
    if not isinstance(value, dict) or cast("dict[str, Any]", value).keys() != _KEYS:
        message = f"describes {shown(name)} by something else than dtype, shape and data_offsets"
        raise HeaderError(path, "invalid_entry", message, name)
    fields = cast("dict[str, Any]", value)
    dtype, shape = fields["dtype"], _whole_numbers(fields["shape"])
    offsets = _whole_numbers(fields["data_offsets"])
    if not isinstance(dtype, str) or dtype not in BITS:
        raise HeaderError(path, "unknown_dtype", f"gives {shown(name)} the unknown dtype {shown(str(dtype))}", name)
    if shape is None or len(shape) > MAX_DIMENSIONS:
        raise HeaderError(path, "invalid_entry", f"gives {shown(name)} a shape that is none", name)
    if offsets is None or len(offsets) != 2:
        raise HeaderError(path, "invalid_entry", f"gives {shown(name)} offsets that are none", name)
    entry = TensorEntry(name, dtype, shape, *offsets)
    wanted = _bytes(entry, path)
    if entry.end - entry.begin != wanted:
        message = f"gives {shown(name)} {entry.end - entry.begin:,} bytes, but its shape takes {wanted:,}"
        raise HeaderError(path, "size_mismatch", message, name)
    return entry


def _whole_numbers(value: object) -> tuple[int, ...] | None:
    """The items of a list of integers of at least 0 that fit 64 bits; None for anything else (a bool is no integer)."""
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    numbers = [item for item in items if type(item) is int and 0 <= item <= _LARGEST]
    return tuple(numbers) if len(numbers) == len(items) else None


def _bytes(entry: TensorEntry, path: str) -> int:
    """Bytes of a tensor by its shape; no partial product may go beyond 64 bits, as it would in another reader."""
    count = 1
    for size in (*entry.shape, BITS[entry.dtype]):
        count *= size
        if count > _LARGEST:
            raise HeaderError(path, "overflow", f"gives {shown(entry.name)} a shape beyond 64 bits", entry.name)
    whole, rest = divmod(count, 8)
    if rest:
        raise HeaderError(path, "size_mismatch", f"gives {shown(entry.name)} a size of no whole bytes", entry.name)
    return whole


def _refuse_gaps(tensors: Mapping[str, TensorEntry], data_bytes: int, path: str) -> None:
    """The tensors must lie side by side, from the first byte of the data to the last of the file."""
    ordered = sorted(tensors.values(), key=lambda entry: (entry.begin, entry.end))
    if ordered and ordered[0].begin:
        raise HeaderError(path, "hole", f"has {ordered[0].begin:,} bytes before its first tensor", ordered[0].name)
    for one, following in pairwise(ordered):
        if following.begin != one.end:
            kind, word = ("overlap", "overlaps") if following.begin < one.end else ("hole", "leaves a hole after")
            raise HeaderError(
                path, kind, f"has {shown(following.name)}, which {word} {shown(one.name)}", following.name
            )
    end = ordered[-1].end if ordered else 0
    if end > data_bytes:
        message = f"names {end:,} bytes of tensors, but has only {data_bytes:,}"
        raise HeaderError(path, "truncated", message, ordered[-1].name)
    if end < data_bytes:
        raise HeaderError(path, "trailing_bytes", f"has {data_bytes - end:,} bytes that belong to no tensor")
