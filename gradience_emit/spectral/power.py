"""The largest singular value of full matrices by power steps that go on where the last sample ended."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from gradience_emit.spectral.reading import MatrixSpectrum
from gradience_emit.spectral.targets import FullMatrix

__all__ = ["PowerIteration", "interpret"]

_linalg: Any = torch.linalg  # its functions have no types

_CHUNK: Final = 1 << 23
"""Elements of a matrix in half precision that are widened at a time: 32 MiB in float32."""
_STIR: Final = 1e-4
"""Share of a fresh random direction in each sample's first vector; it costs 1e-8 of the value before any step."""


@dataclass(slots=True)
class _State:
    vector: torch.Tensor
    generator: torch.Generator


class PowerIteration:
    """Warm-started power steps on Wᵀ W, one vector for each matrix, kept from sample to sample.

    Weights move little between samples, so that a few steps follow them; the first sample of a matrix takes more.
    Into each sample's first vector a little of a random one is stirred: should another direction become the largest,
    the old vector alone may hold nothing of it. All random numbers come from generators of this object's own.

    Args:
        steps: power steps a sample, at least 1. Each reads the matrix once.
        first_steps: power steps of a matrix's first sample, at least ``steps``.

    Raises:
        ValueError: a number of steps is out of range.
    """

    def __init__(self, steps: int = 2, first_steps: int = 20) -> None:
        if not 1 <= steps <= first_steps:
            raise ValueError(f"1 <= steps <= first_steps must hold, not {steps}, {first_steps}")
        self.steps = steps
        self.first_steps = first_steps
        self._states: dict[str, _State] = {}

    def parts(self, item: FullMatrix) -> torch.Tensor:
        """Take this sample's steps on one matrix; only enqueues work on its device.

        Returns:
            (3,) float64 on the matrix's device: ‖W v‖², ‖Wᵀ W v - ‖W v‖² v‖ and ‖W‖_F², for the unit vector v of the
            last step. For `interpret`, once it is on the host.
        """
        weight = item.weight
        device = weight.device
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        state = self._states.get(item.name)
        known = state is not None and state.vector.shape[0] == weight.shape[1] and state.vector.device == device
        if state is None or not known or state.vector.dtype != dtype:
            generator = torch.Generator(device=device)
            generator.manual_seed(len(self._states) + 1)
            state = _State(_random(weight.shape[1], dtype, generator), generator)
            self._states[item.name] = state
            count = self.first_steps
        else:
            stirred = state.vector + _STIR * _random(weight.shape[1], dtype, state.generator)
            state.vector = stirred / _linalg.vector_norm(stirred)
            count = self.steps
        with _full_precision(device):
            return _steps(weight, state, count, dtype)

    def forget(self, name: str) -> None:
        """Begin anew with this matrix at the next sample: for one of zeros or of NaN, which taught nothing."""
        self._states.pop(name, None)


def interpret(item: FullMatrix, part: Sequence[float], weight_decay: float | None) -> MatrixSpectrum:
    """A matrix's numbers from what `PowerIteration.parts` gave; all None where it holds NaN or infinity."""
    square, residual, total = part
    rows, columns = item.weight.shape
    shape = (int(rows), int(columns))
    if not all(map(math.isfinite, part)):
        return MatrixSpectrum(item.name, shape, None, None, None, None, weight_decay)
    if not (square > 0 and total > 0):
        return MatrixSpectrum(item.name, shape, 0.0, None, None, None, weight_decay)
    stable_rank = max(1.0, total / square)
    return MatrixSpectrum(
        item.name,
        shape,
        sigma_max=math.sqrt(square),
        residual=residual / square,
        proxy=math.sqrt(min(shape) / stable_rank),
        stable_rank=stable_rank,
        weight_decay=weight_decay,
    )


def _steps(weight: torch.Tensor, state: _State, count: int, dtype: torch.dtype) -> torch.Tensor:
    vector = state.vector
    square = torch.zeros((), dtype=dtype, device=weight.device)
    residual: Any = square
    for _ in range(count):
        state.vector = vector
        image, square = _apply(weight, vector, dtype)
        residual = _linalg.vector_norm(image - square * vector)
        norm = _linalg.vector_norm(image)
        # A matrix of zeros has no next vector, and must not look like one of NaN.
        sound = norm > 0
        vector = torch.where(sound, image / torch.where(sound, norm, torch.ones_like(norm)), vector)
    state.vector = vector
    return torch.stack([square.double(), residual.double(), _square_sum(weight, dtype)])


def _random(size: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """A random unit vector, on the generator's device."""
    drawn = torch.randn(size, dtype=dtype, generator=generator, device=generator.device)
    unit: torch.Tensor = drawn / _linalg.vector_norm(drawn)
    return unit


def _pieces(weight: torch.Tensor, dtype: torch.dtype) -> list[torch.Tensor]:
    """The matrix by its rows, in pieces where it has to be widened."""
    if weight.dtype == dtype:
        return [weight]
    return _by_rows(weight)


def _full_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """No automatic mixed precision inside: it would round the steps of float32 to half precision."""
    if not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


def _by_rows(weight: Any) -> list[torch.Tensor]:
    return list(weight.split(max(1, _CHUNK // weight.shape[1])))


def _apply(weight: torch.Tensor, vector: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Wᵀ W v and ‖W v‖², reading W once for both where it is taken in pieces."""
    image = torch.zeros_like(vector)
    square = torch.zeros((), dtype=dtype, device=weight.device)
    for piece in _pieces(weight, dtype):
        wide = piece.to(dtype)
        part = torch.mv(wide, vector)
        image += torch.mv(wide.T, part)
        square = square + part.dot(part)
    return image, square


def _square_sum(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """‖W‖_F² in float64; each piece is summed in the precision of the steps."""
    total: torch.Tensor = torch.zeros((), dtype=torch.float64, device=weight.device)
    for piece in _by_rows(weight):
        total += _linalg.vector_norm(piece, dtype=dtype).double().square()
    return total
