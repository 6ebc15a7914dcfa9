"""Matrices of a safetensors file, row block by row block, decoded to float32 in cache-sized chunks.

A norm takes several passes, and mapping a page costs as much as decoding it: so the first pages of a tensor stay mapped
from one pass to the next, and the others are given back as they are read, so that memory stays bounded.
"""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradience_analysis.adapters.dtypes import BITS
from gradience_analysis.adapters.opening import open_plain, unreadable
from gradience_analysis.base_weights.checkpoint import Stored
from gradience_analysis.base_weights.decoding import Decoder
from gradience_analysis.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_BYTES = 1 << 19
"""Bytes of a chunk in float32: it and what it is decoded from stay in a second-level cache."""
KEPT_BYTES = 48 << 20
"""Bytes of a tensor whose pages stay until it is closed."""
_RELEASE_BYTES = 4 << 20


class TensorBytes:
    """The bytes of a tensor, or of a part of it, mapped when they are first asked for.

    Args:
        stored: The tensor.
        begin: Byte of the tensor at which the part begins.
        size: Bytes of the part; the rest of the tensor without it.

    Attributes:
        size: Bytes of the part.
    """

    def __init__(self, stored: Stored, begin: int = 0, size: int | None = None) -> None:
        self.size = stored.entry.end - stored.entry.begin - begin if size is None else size
        self._stored = stored
        self._begin = begin
        self._map: mmap.mmap | None = None
        self._skip = 0
        self._released = KEPT_BYTES

    def take(self, begin: int, end: int) -> NDArray[np.uint8]:
        """Bytes `begin` to `end` of the part, as a view of the file.

        Raises:
            InputError: The file cannot be opened any more, or has changed since its header was read.
        """
        if end <= begin:
            return np.empty(0, dtype=np.uint8)
        mapped = self._map or self._open()
        return np.frombuffer(mapped, dtype=np.uint8, count=end - begin, offset=self._skip + begin)

    def all(self) -> NDArray[np.uint8]:
        """All its bytes."""
        return self.take(0, self.size)

    def done(self, end: int) -> None:
        """Say that the bytes before `end` have been used in this pass, so that pages beyond the kept ones can go."""
        if end <= KEPT_BYTES:
            self._released = KEPT_BYTES  # a pass begins
            return
        enough = end == self.size or end - self._released >= _RELEASE_BYTES
        if self._map is None or not enough or not hasattr(mmap, "MADV_DONTNEED"):
            return
        first = (self._skip + self._released) // mmap.PAGESIZE * mmap.PAGESIZE
        length = (self._skip + end) // mmap.PAGESIZE * mmap.PAGESIZE - first
        if length > 0:
            self._map.madvise(mmap.MADV_DONTNEED, first, length)
        self._released = end

    def close(self) -> None:
        """Give the mapping back; a view that is still held keeps it until it goes."""
        mapped, self._map = self._map, None
        if mapped is not None:
            try:
                mapped.close()
            except BufferError:
                return

    def _open(self) -> mmap.mmap:
        path, header, entry = self._stored
        start = header.data_start + entry.begin + self._begin
        aligned = start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        self._skip = start - aligned
        with open_plain(path) as file:
            try:
                if file.seek(0, 2) != header.file_size:
                    raise InputError(str(path), "has changed while it was read.", "Run it again.")
                self._map = mmap.mmap(file.fileno(), self._skip + self.size, access=mmap.ACCESS_READ, offset=aligned)
            except (OSError, ValueError) as error:
                raise unreadable(path, error) from error
        return self._map


class MatrixRows(ABC):
    """A matrix that is read anew for each pass.

    Attributes:
        shape: (rows, columns) as it is streamed.
        transposed: Whether the rows are the layer's inputs, as GPTQ and AWQ store them; else they are its outputs, or
            as the model's class has them (Conv1D: inputs).
    """

    shape: tuple[int, int]
    transposed: bool = False

    @abstractmethod
    def chunks(self) -> Iterator[NDArray[Any]]:
        """Blocks of rows in order, (k, columns), float32 (of float64 tensors: float64), about half a megabyte each.

        A block holds its values until the next one is asked for, and no longer: they share a buffer.
        """

    @abstractmethod
    def close(self) -> None:
        """Give files back; `chunks` opens them again."""

    def rows_per_chunk(self, multiple: int = 1) -> int:
        """Rows that make a chunk, at least one, and a multiple of the given number."""
        rows = CHUNK_BYTES // (4 * max(1, self.shape[1]))
        return max(multiple, rows // multiple * multiple)


class DenseRows(MatrixRows):
    """A matrix that is a tensor, or a part of one that lies in one piece, as plain numbers.

    Args:
        stored: The tensor.
        shape: Dimensions of the matrix.
        first: Element of the tensor at which the matrix starts.
    """

    def __init__(self, stored: Stored, shape: tuple[int, int], first: int = 0) -> None:
        self.shape = shape
        self._width = BITS[stored.entry.dtype] // 8
        self._bytes = TensorBytes(stored, first * self._width, shape[0] * shape[1] * self._width)
        self._decoder = Decoder(stored.entry.dtype)

    def chunks(self) -> Iterator[NDArray[Any]]:
        """See MatrixRows."""
        rows, columns = self.shape
        step = self.rows_per_chunk()
        for row in range(0, rows, step):
            count = min(step, rows - row)
            begin = row * columns * self._width
            end = begin + count * columns * self._width
            yield self._decoder.decode(self._bytes.take(begin, end)).reshape(count, columns)
            self._bytes.done(end)

    def close(self) -> None:
        """See MatrixRows."""
        self._bytes.close()


class StackedRows(MatrixRows):
    """Matrices of the same width, one below the other."""

    def __init__(self, parts: Sequence[MatrixRows]) -> None:
        self._parts = parts
        self.shape = (sum(part.shape[0] for part in parts), parts[0].shape[1])

    def chunks(self) -> Iterator[NDArray[Any]]:
        """See MatrixRows."""
        for part in self._parts:
            yield from part.chunks()

    def close(self) -> None:
        """See MatrixRows."""
        for part in self._parts:
            part.close()
