"""Spectral and Frobenius norm of a matrix that is streamed, never held: block Lanczos, one pass over it per step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gradience_analysis.linalg.spectrum import FloatArray

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 4
"""Vectors per step. One vector alone is taken in by a doublet, and misses a value that stands a little above many equal
ones; four of them cost no more per pass, since a pass waits for the decoding of the weights."""
_DENSE_SIDE = 64
"""Up to this length of the smaller side its Gram matrix is small, and its eigenvalues are taken instead."""
_TILE_COLUMNS = 8192
_TILE_SIZE = 245_000
"""Entries of a tile: times 4 vectors below the million products up to which OpenBLAS multiplies without packing, 2 to 4
times faster. Sums of up to 8192 float32 products err by about 1e-7."""
_ROWS_TOGETHER = 128
"""Rows, about, whose float32 images are added up before they go to the float64 total."""
_MARGIN = 0.5
"""Share of the tolerance at which the residual ends it. Of a cluster wider than the block the residual tells the
distance to some value in it; the largest was seen up to 1.4 times as far away."""
_PIECE = 8192
"""Elements that are widened to float64 at a time for the Frobenius norm."""
_FLOAT32_TOLERANCE = 1e-6
"""Below this tolerance float32 products cannot certify."""
_SMALLEST_RMS = 1e-12
"""Root mean square entry below which float32 products of three factors underflow."""
_BASIS_BYTES = 32 << 20
_LEAST_BASIS = 32
"""Size in bytes, and least number of vectors, at which the basis is condensed to its better half."""


class RowChunks(Protocol):
    """A matrix that is streamed anew for each pass.

    Attributes:
        shape: (rows, columns).
    """

    shape: tuple[int, int]

    def chunks(self) -> Iterator[NDArray[Any]]:
        """Blocks of rows in order, (k, columns), float32 or float64, best of 1 to 2 MB so that they stay in cache.

        Nothing keeps a block once the next is asked for, so that one buffer may serve for all.
        """
        ...


@dataclass(frozen=True, slots=True)
class NormEstimate:
    """Norms of a streamed matrix W.

    Attributes:
        spectral: Lower bound of the spectral norm, right to `residual` of itself; NaN when W holds NaN or infinity.
        frobenius: Frobenius norm, summed in float64; NaN likewise.
        tolerance: Relative tolerance that was asked for.
        residual: |WᵀW v - λ v| / (2 λ) of the unit vector v behind `spectral` = sqrt(λ): a singular value lies within
            this share of it. NaN when W holds NaN or infinity.
        steps: Passes over the matrix.
        converged: `residual` is within `tolerance`.
        nonfinite: Number of entries that are NaN or infinite.
    """

    spectral: float
    frobenius: float
    tolerance: float
    residual: float
    steps: int
    converged: bool
    nonfinite: int


def matrix_norms(matrix: RowChunks, *, tolerance: float = 1e-4, max_steps: int = 200, seed: int = 0) -> NormEstimate:
    """Spectral norm by block Lanczos on WᵀW with full reorthogonalisation, Frobenius norm from the first pass.

    Each step is one pass that takes Y = W V and Z = WᵀY chunk by chunk. It stops when the plain residual of the best
    Ritz pair reaches half the tolerance and the last step raised the value by no more than that; never after one step.
    The value is a Rayleigh quotient, so it lies below the true norm but for rounding (1e-6 of it at most). That it
    belongs to the largest singular value and not to another rests on the random start, as in every such method.
    On doublets, triples, flat spectra with a spike and Gaussian edges the true error was within the tolerance for every
    start tried (one vector instead of four: up to 50 times it); of eight values spaced by 0.4 tolerances, more
    than a block can tell apart, 2 of 150 starts ended 1.16 tolerances low.

    Products are float32 with sums in float64, and float64 throughout where the tolerance is below 1e-6 or entries are
    so large or small that float32 products would leave their range. Memory is one chunk and a basis of up to 32 MB
    (columns x 4 x steps x 8 bytes; at least 32 vectors), twice that while it grows. A smaller side up to 64 is solved
    directly, in one pass.

    Args:
        matrix: W; entries of float64 chunks within 1e-140..1e140 in magnitude, or 0.
        tolerance: Relative, above 0.
        max_steps: Most passes.
        seed: Of the random start: the same seed gives the same result.

    Returns:
        The norms. Both are 0 for a matrix of zeros, and NaN for one with NaN or infinite entries, which are counted.

    Raises:
        ValueError: No rows or columns, chunks that do not make up the shape, a tolerance of 0 or less, or max_steps
            below 1.

    Source: Golub & Underwood 1977 (block Lanczos); Parlett 1998, chapter 4 (residual bound).
    """
    rows, columns = matrix.shape
    if min(rows, columns) < 1:
        raise ValueError(f"a matrix of shape {matrix.shape} has no norm to estimate")
    if not tolerance > 0 or max_steps < 1:
        raise ValueError(f"tolerance {tolerance} is not above 0, or max_steps {max_steps} is below 1")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if min(rows, columns) <= _DENSE_SIDE:
            return _dense_norms(matrix, tolerance)
        return _lanczos_norms(matrix, tolerance, max_steps, seed)


def _lanczos_norms(matrix: RowChunks, tolerance: float, max_steps: int, seed: int) -> NormEstimate:
    columns = matrix.shape[1]
    start = np.random.default_rng(seed).standard_normal((columns, _BLOCK))
    space = _KrylovSpace(np.ascontiguousarray(np.linalg.qr(start)[0].T))
    passes = _Passes(matrix, wide=tolerance < _FLOAT32_TOLERANCE)
    before = 0.0
    while True:
        images = passes.apply(space.block)
        frobenius = math.sqrt(passes.squares)
        if images is None:
            return NormEstimate(math.nan, math.nan, tolerance, math.nan, passes.steps, False, passes.nonfinite)
        value, residual = space.extend(images)
        # A value that still rises is not settled, whatever its residual; the first step always rises, from 0.
        settled = value - before <= 2 * tolerance * value
        done = space.complete or (settled and residual <= _MARGIN * tolerance)
        if done or passes.steps >= max_steps:
            return NormEstimate(
                spectral=math.sqrt(value),
                frobenius=frobenius,
                tolerance=tolerance,
                residual=residual,
                steps=passes.steps,
                converged=done and residual <= tolerance,
                nonfinite=0,
            )
        before = value


class _Passes:
    """Passes over a matrix: the product with WᵀW in each, its squares and what is not finite from the first.

    Attributes:
        steps: Passes taken.
        squares: Sum of squared entries.
        nonfinite: Entries that are NaN or infinite.
    """

    def __init__(self, matrix: RowChunks, *, wide: bool) -> None:
        self.steps = 0
        self.squares = 0.0
        self.nonfinite = 0
        self._matrix = matrix
        self._wide = wide

    def apply(self, block: FloatArray) -> FloatArray | None:
        """WᵀW v for each row v of the block, as rows in float64; None when the matrix holds NaN or infinity."""
        images = self._pass(block)
        rows, columns = self._matrix.shape
        tiny = 0 < self.squares < rows * columns * _SMALLEST_RMS**2
        if not self.nonfinite and not self._wide and (tiny or not np.isfinite(images).all()):
            self._wide = True
            images = self._pass(block)
        return images if np.isfinite(images).all() and not self.nonfinite else None

    def _pass(self, block: FloatArray) -> FloatArray:
        first = self.steps == 0
        narrow = _Images(block.astype(np.float32))
        wide = _Images(block)
        for chunk in _whole(self._matrix):
            if first:
                squares = _sum_of_squares(chunk)
                if not math.isfinite(squares):
                    self.nonfinite += int(np.count_nonzero(~np.isfinite(chunk)))
                self.squares += squares
            if self.nonfinite:
                continue
            if self._wide or chunk.dtype == np.float64:
                wide.add(chunk.astype(np.float64, copy=False))
            else:
                narrow.add(chunk.astype(np.float32, copy=False))
        self.steps += 1
        return wide.sum() + narrow.sum()


class _Images:
    """The sum of (CᵀC V)ᵀ over chunks C in one precision, for Vᵀ of shape (b, columns)."""

    def __init__(self, vectors: NDArray[Any]) -> None:
        columns = vectors.shape[1]
        self._total: FloatArray | None = None
        self._part = np.zeros_like(vectors)
        self._rows = 0
        self._tile = max(1, _TILE_SIZE // min(columns, _TILE_COLUMNS))
        spans = [slice(low, low + _TILE_COLUMNS) for low in range(0, columns, _TILE_COLUMNS)]
        self._pieces = [(span, np.ascontiguousarray(vectors[:, span])) for span in spans]

    def add(self, chunk: NDArray[Any]) -> None:
        """Take in a chunk, tile by tile."""
        for first in range(0, chunk.shape[0], self._tile):
            rows = chunk[first : first + self._tile]
            y = np.zeros((self._part.shape[0], rows.shape[0]))
            for span, vectors in self._pieces:
                y += vectors @ rows[:, span].T
            left = y.astype(chunk.dtype)
            for span, _ in self._pieces:
                self._part[:, span] += left @ rows[:, span]
            self._rows += rows.shape[0]
            if self._rows >= _ROWS_TOGETHER:
                self._settle()

    def sum(self) -> FloatArray:
        """The sum in float64."""
        return self._settle()

    def _settle(self) -> FloatArray:
        if self._total is None:
            self._total = self._part.astype(np.float64)
        else:
            np.add(self._total, self._part, out=self._total)
        self._part[:] = 0.0
        self._rows = 0
        return self._total


class _KrylovSpace:
    """An orthonormal basis Q, kept as rows, that grows by a block per step, and the images WᵀW Q in terms of it.

    Since the images are orthogonalised against all of Q, and every coefficient is kept, WᵀW Q = [Q, next block] H holds
    to float64 for the images as they were computed: the residual of a Ritz pair follows from H alone, and what
    float32 products did to the images is part of it.

    Attributes:
        block: The newest vectors, (b, columns), whose images are wanted.
        complete: No further direction is left: the space holds everything its start can reach.
    """

    def __init__(self, block: FloatArray) -> None:
        self.block = block
        self.complete = False
        self._lost = 0.0  # squared length of what images had outside the space and the next block
        self._size = block.shape[0]
        self._rows = np.empty((8 * _BLOCK, block.shape[1]))
        self._rows[: self._size] = block
        self._coefficients: FloatArray = np.empty((self._size, 0))

    def extend(self, images: FloatArray) -> tuple[float, float]:
        """Take in the images of `block`, (b, columns), and set the next one.

        Returns:
            The largest Ritz value λ of WᵀW, and its residual over 2 λ (0 for λ = 0).
        """
        size = self._size
        basis = self._rows[:size]
        inside = basis @ images.T
        rest = images - inside.T @ basis
        again = basis @ rest.T
        rest -= again.T @ basis
        fresh = _orthonormal(rest, basis, math.sqrt(float(np.square(images).sum())))
        below = fresh @ rest.T
        self._lost += float(np.square(rest - below.T @ fresh).sum())
        known = self._coefficients.shape[1]
        h = np.zeros((size + fresh.shape[0], size))
        h[:size, :known] = self._coefficients
        h[:size, known:] = inside + again
        h[size:, known:] = below
        values, vectors = np.linalg.eigh((h[:size] + h[:size].T) / 2)
        value = max(float(values[-1]), 0.0)
        error = h @ vectors[:, -1]
        error[:size] -= value * vectors[:, -1]
        self._coefficients = h
        if (size + fresh.shape[0]) * images.shape[1] * 8 > _BASIS_BYTES and size >= _LEAST_BASIS:
            self._condense(vectors[:, size // 2 :], values[size // 2 :])
        self._append(fresh)
        self.complete = fresh.shape[0] == 0
        self.block = fresh
        return value, math.sqrt(float(np.dot(error, error)) + self._lost) / (2 * value) if value else 0.0

    def _append(self, fresh: FloatArray) -> None:
        size = self._size + fresh.shape[0]
        if size > self._rows.shape[0]:
            larger = np.empty((max(size, self._rows.shape[0] * 3 // 2), self._rows.shape[1]))
            larger[: self._size] = self._rows[: self._size]
            self._rows = larger
        self._rows[self._size : size] = fresh
        self._size = size

    def _condense(self, vectors: FloatArray, values: FloatArray) -> None:
        """Keep the upper half of the Ritz vectors and what couples them to the next block.

        A thick restart (Wu & Simon 2000).
        """
        size, kept = vectors.shape
        coupling = self._coefficients[size:] @ vectors
        for low in range(0, self._rows.shape[1], _TILE_COLUMNS):
            span = slice(low, low + _TILE_COLUMNS)
            self._rows[:kept, span] = vectors.T @ self._rows[:size, span]
        self._size = kept
        self._coefficients = np.vstack([np.diag(values), coupling])


def _orthonormal(rest: FloatArray, basis: FloatArray, scale: float) -> FloatArray:
    """Orthonormal rows that span those of `rest`, orthogonal to the basis, without directions that are rounding."""
    room = min(rest.shape[0], rest.shape[1] - basis.shape[0])
    fresh = rest / scale if scale else rest
    # The second round mends what the first, of rows that were nearly dependent, has left short of orthogonal.
    for least in (1e-13, 0.1, 0.1):
        squares, turn = np.linalg.eigh(fresh @ fresh.T)
        kept = squares[-room:] > least**2 if room else np.zeros(0, dtype=np.bool_)
        chosen = turn[:, -room:][:, kept] / np.sqrt(squares[-room:][kept]) if room else turn[:, :0]
        fresh = chosen.T @ fresh
        fresh -= (fresh @ basis.T) @ basis
        room = min(room, fresh.shape[0])
    return fresh


def _dense_norms(matrix: RowChunks, tolerance: float) -> NormEstimate:
    """Both norms from the Gram matrix of the smaller side, in float64."""
    columns = matrix.shape[1]
    squares, nonfinite = 0.0, 0
    gram = np.zeros((columns, columns)) if columns <= _DENSE_SIDE else np.zeros((0, 0))
    held: list[FloatArray] = []
    for chunk in _whole(matrix):
        wide = chunk.astype(np.float64)
        nonfinite += int(np.count_nonzero(~np.isfinite(wide)))
        squares += float(np.vdot(wide, wide))
        if columns <= _DENSE_SIDE:
            gram += wide.T @ wide
        else:
            held.append(wide)
    if nonfinite:
        return NormEstimate(math.nan, math.nan, tolerance, math.nan, 1, False, nonfinite)
    if held:
        whole = np.concatenate(held)
        gram = whole @ whole.T
    values, vectors = np.linalg.eigh(gram)
    value = max(float(values[-1]), 0.0)
    error = float(np.linalg.norm(gram @ vectors[:, -1] - value * vectors[:, -1]))
    residual = error / (2 * value) if value else 0.0
    return NormEstimate(math.sqrt(value), math.sqrt(squares), tolerance, residual, 1, residual <= tolerance, 0)


def _whole(matrix: RowChunks) -> Iterator[NDArray[Any]]:
    """The chunks, checked to make up the shape."""
    rows, columns = matrix.shape
    seen = 0
    for chunk in matrix.chunks():
        if chunk.ndim != 2 or chunk.shape[1] != columns:
            raise ValueError(f"a chunk of shape {chunk.shape} in a matrix of shape {matrix.shape}")
        seen += chunk.shape[0]
        yield chunk
    if seen != rows:
        raise ValueError(f"chunks of {seen} rows in a matrix of shape {matrix.shape}")


def _sum_of_squares(chunk: NDArray[Any]) -> float:
    """Sum of squares in float64, widened piece by piece in cache."""
    flat = chunk.reshape(-1)
    total = 0.0
    for first in range(0, flat.size, _PIECE):
        piece = flat[first : first + _PIECE].astype(np.float64)
        total += float(np.dot(piece, piece))
    return total
