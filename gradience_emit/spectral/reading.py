"""What one measurement of the weights holds, and which of its numbers stands for the run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["AdapterSpectrum", "MatrixSpectrum", "SpectralReading"]


@dataclass(frozen=True, slots=True)
class AdapterSpectrum:
    """The spectrum of one module's update, scaling · B A.

    Attributes:
        name: the module's path in the model; with ``:adapter`` behind it where several adapters are active.
        rank: r of the factors.
        sigma_max: largest singular value, in units of the weights; 0.0 for an update of zero, None where a factor holds
            NaN or infinity.
        sigma_min: smallest singular value of the numerical range: of those above max(m, n) · 1.19e-7 · ``sigma_max``.
            None where there is none.
        frobenius: Frobenius norm, in units of the weights.
        numerical_rank: how many singular values lie in the numerical range, 0 to r.
        kappa: ``sigma_max / sigma_min``, at least 1. None where there is no update: it is not measured, not 1.
        stable_rank: ‖ΔW‖_F² / sigma_max², 1 to r; None without an update.
        utilization: ``stable_rank / rank``, above 0 and at most 1; None without an update.
        weight_decay: of the optimizer for these factors; None where it is not known.
        dora: whether DoRA rescales the columns of the adapted weight besides; that is not in these numbers.
    """

    name: str
    rank: int
    sigma_max: float | None
    sigma_min: float | None
    frobenius: float | None
    numerical_rank: int | None
    kappa: float | None
    stable_rank: float | None
    utilization: float | None
    weight_decay: float | None = None
    dora: bool = False

    @property
    def condition(self) -> float | None:
        """``kappa``."""
        return self.kappa


@dataclass(frozen=True, slots=True)
class MatrixSpectrum:
    """What power steps say about a full matrix that is trained.

    Attributes:
        name: the parameter's path in the model.
        shape: (m, n), a convolution's weight flattened to (out, in · kernel).
        sigma_max: ‖W v‖ for the unit vector v of the last power step: never above the largest singular value. In units
            of the weights; 0.0 for a matrix of zeros, None for one that holds NaN or infinity.
        residual: ‖Wᵀ W v - s² v‖ / s² with s = ``sigma_max``, dimensionless. Some singular value t has |t² - s²| <=
            residual · s²; that it is the largest one is not certified. None where ``sigma_max`` is 0 or None.
        proxy: sigma_max · sqrt(min(m, n)) / ‖W‖_F = sqrt(min(m, n) / stable rank), 1 for an orthogonal matrix. A lower
            bound of the condition number, since the square of the smallest value is at most the mean square
            ‖W‖_F² / min(m, n). It says nothing of the smallest values: a singular matrix may have a proxy near 1.
        stable_rank: ‖W‖_F² / sigma_max²; at least 1, and above the true one by what ``sigma_max`` is too small.
        weight_decay: of the optimizer for this matrix; None where it is not known.
    """

    name: str
    shape: tuple[int, int]
    sigma_max: float | None
    residual: float | None
    proxy: float | None
    stable_rank: float | None
    weight_decay: float | None = None

    @property
    def condition(self) -> float | None:
        """``proxy``."""
        return self.proxy


@dataclass(frozen=True, slots=True)
class SpectralReading:
    """One measurement of all matrices that are trained.

    The run's numbers come from its adapters where it has any, else from its full matrices; ``source`` says which. The
    two are never mixed, since one has a condition number and the other a lower bound of it.

    Attributes:
        adapters: one for each adapted module.
        matrices: one for each other trained matrix (full fine-tuning, ``modules_to_save``).
        nonfinite: how many of both hold NaN or infinity, and have no numbers therefore.
        skipped: adapted modules and trained tensors that are not measured: sharded ones, factors that do not fit
            together, adapters that are no product of two matrices, tensors of three dimensions that are no convolution.
        recomputed: adapters whose Gram matrices had lost digits, and which were measured by QR.
        cost_ms: wall-clock time of the measurement, waiting for the device included.
    """

    adapters: tuple[AdapterSpectrum, ...] = ()
    matrices: tuple[MatrixSpectrum, ...] = ()
    nonfinite: int = 0
    skipped: int = 0
    recomputed: int = 0
    cost_ms: float = 0.0

    @property
    def source(self) -> str | None:
        """``adapter``, ``matrix``, or None for a model in which nothing is trained that could be measured."""
        return "adapter" if self.adapters else "matrix" if self.matrices else None

    @property
    def kappa(self) -> float | None:
        """The run's kappa: the median over the adapters of ``kappa``, or over the full matrices of ``proxy``.

        The median, because one module that is nearly singular has a kappa of any size. Modules without an update are
        left out; None where no module has one, as before the first step of an adapter whose B begins at zero.
        """
        return _median(_known([item.condition for item in self._items]))

    @property
    def worst(self) -> tuple[str, float] | None:
        """Name and condition of the module with the largest one, the first of equals; None where ``kappa`` is."""
        known = [(item.name, item.condition) for item in self._items if item.condition is not None]
        return max(known, key=lambda pair: pair[1], default=None)

    @property
    def sigma_max(self) -> float | None:
        """The largest ``sigma_max``, in units of the weights; None without any."""
        return max(_known([item.sigma_max for item in self._items]), default=None)

    @property
    def sigma_min(self) -> float | None:
        """The smallest ``sigma_min`` of the adapters; not of the module that ``sigma_max`` is of. None without any."""
        return min(_known([item.sigma_min for item in self.adapters]), default=None)

    @property
    def stable_rank_median(self) -> float | None:
        """Median of ``stable_rank``."""
        return _median(_known([item.stable_rank for item in self._items]))

    @property
    def utilization_mean(self) -> float | None:
        """Mean of ``utilization`` over the adapters, above 0 and at most 1; None without one."""
        return _mean(_known([item.utilization for item in self.adapters]))

    @property
    def residual(self) -> float | None:
        """The largest ``residual`` of the full matrices; None without one. Adapters need none: theirs are no estimates.

        The numbers of the adapters are right to about 1e-8.
        """
        return max(_known([item.residual for item in self.matrices]), default=None)

    @property
    def muon_ratio(self) -> float | None:
        """Mean over the measured modules of weight decay x ``sigma_max``, dimensionless, at least 0.

        With one weight decay for all, this is weight decay x mean ``sigma_max``, as the diagnostic `muon_ratio` has it
        (Chen, Li and Liu 2025, arXiv 2506.15054). Modules whose weight decay is not known are left out; None where it
        is known of none. Both adapters and full matrices count: each is decayed by its own group's weight decay.
        """
        pulls = [
            item.weight_decay * item.sigma_max
            for item in self._all
            if item.weight_decay is not None and item.sigma_max is not None
        ]
        return _mean(pulls)

    @property
    def sigma_max_mean(self) -> float | None:
        """Mean of ``sigma_max`` over adapters and full matrices, in units of the weights; None without any."""
        return _mean(_known([item.sigma_max for item in self._all]))

    @property
    def update_norm(self) -> float | None:
        """Frobenius norm of the whole adapter update, sqrt(Σ ‖ΔW‖_F²); None without an adapter that is finite."""
        known = _known([item.frobenius for item in self.adapters])
        return math.hypot(*known) if known else None

    @property
    def _items(self) -> Sequence[AdapterSpectrum | MatrixSpectrum]:
        return self.adapters or self.matrices

    @property
    def _all(self) -> list[AdapterSpectrum | MatrixSpectrum]:
        return [*self.adapters, *self.matrices]


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
