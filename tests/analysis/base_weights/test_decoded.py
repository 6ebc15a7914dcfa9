"""A matrix that is decoded once: the same numbers in every pass, read in the first alone where it is small enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradience_analysis.base_weights import decoded
from gradience_analysis.base_weights.decoded import DecodedOnce
from gradience_analysis.base_weights.streaming import MatrixRows

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Counted(MatrixRows):
    """A matrix in memory that counts its passes, and shares a buffer between chunks as files do."""

    def __init__(self, whole: NDArray[Any]) -> None:
        self.shape = (whole.shape[0], whole.shape[1])
        self.passes = self.closed = 0
        self._whole = whole

    def chunks(self) -> Iterator[NDArray[Any]]:
        """Three rows at a time."""
        self.passes += 1
        buffer = np.empty((3, self.shape[1]), dtype=self._whole.dtype)
        for row in range(0, self.shape[0], 3):
            part = self._whole[row : row + 3]
            buffer[: len(part)] = part
            yield buffer[: len(part)]
        buffer[:] = np.nan

    def close(self) -> None:
        """Count it."""
        self.closed += 1


def passes(rows: DecodedOnce, count: int) -> list[NDArray[Any]]:
    """What each of several passes gives, put together."""
    return [np.concatenate([chunk.copy() for chunk in rows.chunks()]) for _ in range(count)]


@pytest.mark.parametrize("shape", [(1, 1), (10, 7), (3, 300_000)], ids=str)
def test_every_pass_gives_the_same_and_the_source_is_read_once(shape: tuple[int, int]) -> None:
    """Given a small matrix, when passed over four times, then each gives its values, and the source was read once."""
    whole = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    source = Counted(whole)
    for found in passes(DecodedOnce(source), 4):
        np.testing.assert_array_equal(found, whole)
    assert (source.passes, source.closed) == (1, 1)


@pytest.mark.parametrize("kind", ["too large", "float64"])
def test_what_is_not_kept_is_read_in_every_pass(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Given a matrix above the limit, or of doubles, when passed over, then it is read each time and loses no digit."""
    whole = np.random.default_rng(0).standard_normal((10, 7))
    if kind == "too large":
        whole = whole.astype(np.float32)
        monkeypatch.setattr(decoded, "KEPT_DECODED_BYTES", 4 * whole.size - 1)
    source = Counted(whole)
    for found in passes(DecodedOnce(source), 3):
        np.testing.assert_array_equal(found, whole)
    assert source.passes == 3


def test_a_pass_that_was_given_up_is_not_kept() -> None:
    """Given a first pass that ended early, when passed over again, then the rows that it never saw are there."""
    whole = np.random.default_rng(0).standard_normal((10, 7)).astype(np.float32)
    rows = DecodedOnce(Counted(whole))
    next(iter(rows.chunks()))
    np.testing.assert_array_equal(passes(rows, 1)[0], whole)


def test_closing_gives_the_memory_back() -> None:
    """Given a kept matrix, when closed and passed over again, then it is read again."""
    source = Counted(np.ones((4, 4), dtype=np.float32))
    rows = DecodedOnce(source)
    passes(rows, 2)
    rows.close()
    passes(rows, 1)
    assert source.passes == 2
