"""Checksums of a file in blocks, and a file that gives no byte of a block that has changed."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

BLOCK: Final = 1 << 16
"""Bytes a checksum covers. A read is widened to whole blocks, so that a small column costs at most two of them more."""


def checksums(data: bytes) -> tuple[int, ...]:
    """The CRC-32 of each block of 64 KiB, the last one as long as what is left; none of no bytes."""
    view = memoryview(data)
    return tuple(zlib.crc32(view[start : start + BLOCK]) for start in range(0, len(data), BLOCK))


class CheckedFile(io.RawIOBase):
    """A file to read from at any place, in which every byte that is given has been compared with its checksum.

    Parquet's own checksums leave out page headers and the footer, where one changed bit gives other numbers or worse.

    Args:
        path: The file.
        size: How long it has to be.
        blocks: What `checksums` made of it.

    Attributes:
        damaged: Whether a block was not what it has to be; reading then raises OSError.

    Raises:
        OSError: The file cannot be opened, or is of another size.
    """

    def __init__(self, path: Path, size: int, blocks: Sequence[int]) -> None:
        super().__init__()
        self.damaged = False
        self._size = size
        self._blocks = blocks
        self._at = 0
        self._descriptor = os.open(path, os.O_RDONLY)
        if os.fstat(self._descriptor).st_size != size:
            self.damaged = True
            self.close()
            raise OSError("is not of the size that it was written with")

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True

    def tell(self) -> int:
        """The place from which the next read starts."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the file reaches; 0 at the end.

        Raises:
            OSError: A block of what was asked for is damaged.
        """
        view = memoryview(buffer).cast("B")
        first, end = self._at // BLOCK, min(self._at + len(view), self._size)
        if end <= self._at:
            return 0
        last = (end - 1) // BLOCK
        data = os.pread(self._descriptor, (last - first + 1) * BLOCK, first * BLOCK)
        if checksums(data) != tuple(self._blocks[first : last + 1]):
            self.damaged = True
            raise OSError("is not what was written")
        start = self._at - first * BLOCK
        view[: end - self._at] = data[start : start + end - self._at]
        taken, self._at = end - self._at, end
        return taken
