"""A streamed matrix that is decoded once, where it is small enough to be kept as float32 for the passes that follow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from gradience_analysis.base_weights.streaming import CHUNK_BYTES, MatrixRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT_DECODED_BYTES = 72 << 20
"""A matrix of at most this size in float32 is kept: the up-projection of a model of 2,048 x 8,192 is just below it."""


class DecodedOnce(MatrixRows):
    """Another matrix, which is read and decoded in the first pass only.

    Decoding takes about as long as the products of a pass, and a norm takes six passes or more. The first pass hands on
    what it decodes; where that is float64, or larger than is kept, so does every other.

    Args:
        rows: The matrix.
    """

    def __init__(self, rows: MatrixRows) -> None:
        self.shape = rows.shape
        self.transposed = rows.transposed
        self._rows = rows
        self._kept: NDArray[np.float32] | None = None

    def chunks(self) -> Iterator[NDArray[Any]]:
        """See MatrixRows."""
        if self._kept is not None:
            step = max(1, CHUNK_BYTES // (4 * max(1, self.shape[1])))
            for row in range(0, self.shape[0], step):
                yield self._kept[row : row + step]
            return
        if 4 * self.shape[0] * self.shape[1] > KEPT_DECODED_BYTES:
            yield from self._rows.chunks()
            return
        yield from self._first()

    def close(self) -> None:
        """See MatrixRows."""
        self._kept = None
        self._rows.close()

    def _first(self) -> Iterator[NDArray[Any]]:
        kept = np.empty(self.shape, dtype=np.float32)
        row = 0
        exact = True
        for chunk in self._rows.chunks():
            exact = exact and chunk.dtype == np.float32
            if exact:
                kept[row : row + len(chunk)] = chunk
            row += len(chunk)
            yield chunk
        if exact and row == self.shape[0]:
            self._kept = kept
            self._rows.close()
