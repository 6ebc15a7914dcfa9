"""The whole change that a DoRA adapter makes to a weight, which needs the base: its norms, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from gradience_analysis.adapters.factors import Layout, LoraModule
from gradience_analysis.base_weights.norms import DEFAULT_TOLERANCE
from gradience_analysis.base_weights.opened import BaseWeights
from gradience_analysis.base_weights.streaming import MatrixRows
from gradience_analysis.errors import GradienceError
from gradience_analysis.linalg.norms import NormEstimate, matrix_norms

if TYPE_CHECKING:
    from numpy.typing import NDArray


class DoraShapeError(GradienceError):
    """Factors, magnitude and base weight that do not fit together."""


def dora_norms(  # noqa: PLR0917 - in the order in which the formula has them
    base: BaseWeights,
    module: LoraModule | str,
    lora_a: NDArray[Any],
    lora_b: NDArray[Any],
    scaling: float,
    magnitude: NDArray[Any],
    fan_in_fan_out: bool = False,
    tolerance: float = DEFAULT_TOLERANCE,
) -> NormEstimate:
    """Norms of Δ = diag(m / ‖W + s·B·A‖_row) (W + s·B·A) - W, the true change of a DoRA module's weight.

    Rows are those of B·A: the outputs of a layer, the width of an embedding. With B = 0 and m = 1.1 · ‖W‖_row, Δ is
    0.1 · W, where the factors alone say 0. Source: DoRA, arXiv 2402.09353, eq. 5; PEFT, `DoraLinearVariant`.

    Args:
        base: The base model.
        module: The module.
        lora_a: (r, n), unscaled.
        lora_b: (m, r), unscaled.
        scaling: s.
        magnitude: m, one value for each row of B·A, in any shape.
        fan_in_fan_out: Whether the base stores W as (n, m), for square weights; of others the shape tells.
        tolerance: Relative tolerance of the spectral norm.

    Returns:
        Norms of Δ; NaN where a row of W + s·B·A is zero and its magnitude is not, as in PEFT.

    Raises:
        DoraShapeError: Base weight, factors and magnitude do not fit together.
        KeyError: No weight of the base is certainly meant by the module.
        InputError: A file of the base cannot be read any more.
    """
    if isinstance(module, LoraModule) and module.layout is Layout.EMBEDDING:
        fan_in_fan_out = True  # its B·A is (width, vocabulary), and an embedding is stored the other way round
    with closing(base.rows(module)) as rows, np.errstate(all="ignore"):
        change = DoraChange(rows, lora_a, lora_b, scaling, magnitude, fan_in_fan_out=fan_in_fan_out)
        return matrix_norms(change, tolerance=tolerance)


class DoraChange:
    """Δ of a DoRA module as a streamed matrix, in the orientation of the stored weight.

    Attributes:
        shape: Dimensions of the stored weight.
    """

    def __init__(
        self,
        rows: MatrixRows,
        lora_a: NDArray[Any],
        lora_b: NDArray[Any],
        scaling: float,
        magnitude: NDArray[Any],
        *,
        fan_in_fan_out: bool,
    ) -> None:
        outputs, inputs = lora_b.shape[0], lora_a.shape[1]
        self.shape = rows.shape
        self._rows = rows
        self._across = _is_transposed(rows, (outputs, inputs), fan_in_fan_out=fan_in_fan_out)
        if magnitude.size != outputs:
            raise DoraShapeError(f"The magnitude has {magnitude.size:,} values for {outputs:,} rows.")
        # B·A is left · right in the orientation of the stored weight.
        left, right = (lora_a.T, lora_b.T) if self._across else (lora_b, lora_a)
        self._left = np.ascontiguousarray(left, dtype=np.float64) * scaling
        self._right = np.ascontiguousarray(right, dtype=np.float32)
        self._left32 = self._left.astype(np.float32)
        self._factors = self._row_factors(np.asarray(magnitude, dtype=np.float64).ravel())

    def chunks(self) -> Iterator[NDArray[Any]]:
        """Blocks of rows of Δ, in order."""
        row = 0
        for chunk in self._rows.chunks():
            last = row + len(chunk)
            factors = self._factors if self._across else self._factors[row:last, None]
            # f · (W + D) - W = (f - 1) · W + f · D: no digits are lost where f is near 1.
            update = self._left32[row:last] @ self._right
            update *= factors.astype(np.float32)
            update += chunk * (factors - 1).astype(np.float32)
            yield update
            row = last

    def _row_factors(self, magnitude: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ratio m / ‖W + s·B·A‖ of each row of B·A: of each row of the stored weight, or of each of its columns."""
        squares = np.zeros(magnitude.size)
        row = 0
        for chunk in self._rows.chunks():
            last = row + len(chunk)
            merged = chunk + self._left32[row:last] @ self._right
            if self._across:
                squares += np.einsum("ij,ij->j", merged, merged, dtype=np.float64)
            else:
                squares[row:last] = np.einsum("ij,ij->i", merged, merged, dtype=np.float64)
            row = last
        return magnitude / np.sqrt(squares)


def _is_transposed(rows: MatrixRows, shape: tuple[int, int], *, fan_in_fan_out: bool) -> bool:
    """Whether the base streams the weight the other way round than the factors have it."""
    if rows.shape not in {shape, shape[::-1]}:
        sizes = [" x ".join(map(str, size)) for size in (rows.shape, shape)]
        raise DoraShapeError(f"The base's weight is {sizes[0]}, and the factors make one of {sizes[1]}.")
    if rows.transposed:
        return True
    if shape[0] != shape[1]:
        return rows.shape != shape
    return fan_in_fan_out
