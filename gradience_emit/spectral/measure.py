"""Measures once what is trained in a model: the spectra of its adapters, the largest values of its full matrices."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch

from gradience_emit.spectral.factors import gram_parts, spectra_of
from gradience_emit.spectral.power import PowerIteration, interpret
from gradience_emit.spectral.reading import AdapterSpectrum, SpectralReading
from gradience_emit.spectral.targets import Factors, find_targets

__all__ = ["SpectralProbe"]

_EPSILON: Final = 2.0**-23
"""Of float32, whatever the factors are stored in: that of bfloat16 times a side of 4096 would leave no value at all."""


class SpectralProbe:
    """Measures a model that is being trained, and changes nothing: no weight, no gradient, no random state.

    It works on any device, under mixed precision and behind the wrappers of data parallelism. What is trained is looked
    up at each measurement, so that adapters may be added, switched and unfrozen meanwhile. `targets` says what is left
    out. With sharded weights, where no process holds a whole matrix, nothing is measured.

    Args:
        model: a torch module; PEFT or not.
        power_steps: power steps a sample on each full matrix; each reads it once. Its first sample takes twenty.

    Raises:
        ValueError: ``power_steps`` is not within 1 to 20.
    """

    def __init__(self, model: Any, *, power_steps: int = 2) -> None:
        self._model = model
        self._power = PowerIteration(power_steps)

    def measure(self, weight_decay: Mapping[int, float] | float | None = None) -> SpectralReading:
        """Measure all adapters and trained matrices.

        For an adapter, exactly: the singular values of scaling · B A, from its factors, in float64 (`factors`). For a
        full matrix, an estimate from below: power steps (`power`). Everything comes from a device in one transfer,
        which waits for the work enqueued there; adapters whose factors are nearly rank deficient (``recomputed``) are
        read once more.

        Args:
            weight_decay: of the optimizer: one for all, or by the ``id`` of the parameter; None where it is not known.
                An adapter's is the mean of those of its two factors.

        Returns:
            The numbers; a module that holds NaN or infinity has none and is counted in ``nonfinite``.
        """
        started = time.perf_counter()
        with torch.no_grad():
            targets = find_targets(self._model)
            parts: list[Any] = _to_host(
                gram_parts(targets.factors) + [self._power.parts(item) for item in targets.matrices]
            )
            count = len(targets.factors)
            spectra = spectra_of(targets.factors, parts[:count])
        adapters = tuple(
            _adapter(item, values, _decay(weight_decay, item.parameters))
            for item, values in zip(targets.factors, spectra.values, strict=True)
        )
        matrices = tuple(
            interpret(item, part.tolist(), _decay(weight_decay, (item.parameter,)))
            for item, part in zip(targets.matrices, parts[count:], strict=True)
        )
        for matrix in matrices:
            if not matrix.sigma_max:
                self._power.forget(matrix.name)
        return SpectralReading(
            adapters=adapters,
            matrices=matrices,
            nonfinite=sum(item.sigma_max is None for item in adapters)
            + sum(item.sigma_max is None for item in matrices),
            skipped=targets.skipped,
            recomputed=spectra.recomputed,
            cost_ms=1e3 * (time.perf_counter() - started),
        )


def _to_host(parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Flat float64 tensors on the host, in one transfer for each device they are on."""
    found: list[torch.Tensor] = list(parts)
    devices: dict[torch.device, list[int]] = {}
    for place, part in enumerate(parts):
        devices.setdefault(part.device, []).append(place)
    for device, places in devices.items():
        if device.type == "cpu":
            continue
        together: Any = torch.cat([parts[place] for place in places]).cpu()
        sizes = [parts[place].numel() for place in places]
        for place, part in zip(places, together.split(sizes), strict=True):
            found[place] = part
    return found


def _adapter(item: Factors, values: list[float] | None, weight_decay: float | None) -> AdapterSpectrum:
    """An adapter's numbers from its singular values; None for what is not measured."""
    rank = int(item.a.shape[0])
    if values is None:
        return AdapterSpectrum(item.name, rank, None, None, None, None, None, None, None, weight_decay, item.dora)
    largest = values[0]
    if not largest > 0:
        return AdapterSpectrum(item.name, rank, 0.0, None, 0.0, 0, None, None, None, weight_decay, item.dora)
    edge = max(item.b.shape[0], item.a.shape[1]) * _EPSILON * largest
    within = [value for value in values if value > edge] or [largest]
    shares = [value / largest for value in values]
    energy = sum(share * share for share in shares)
    return AdapterSpectrum(
        item.name,
        rank,
        sigma_max=largest,
        sigma_min=within[-1],
        frobenius=largest * energy**0.5,
        numerical_rank=len(within),
        kappa=largest / within[-1],
        stable_rank=energy,
        utilization=energy / rank,
        weight_decay=weight_decay,
        dora=item.dora,
    )


def _decay(given: Mapping[int, float] | float | None, parameters: Sequence[torch.Tensor]) -> float | None:
    """The mean weight decay of the tensors; None unless it is known of each."""
    if given is None or isinstance(given, (int, float)):
        return None if given is None else float(given)
    found = [given.get(id(parameter)) for parameter in parameters]
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if len(known) == len(found) else None
