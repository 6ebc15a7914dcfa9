"""Risk levels from the course of kappa: the formulas of the diagnostic `spectral_risk`, applied while training goes on.

Over the last readings of kappa, with k their mean:

- slope = Theil-Sen slope of kappa against the step, over k: the fraction of kappa gained per step;
- volatility = 1.4826 x median of |c - slope|, where c = (kappa[i] - kappa[i-1]) / (step[i] - step[i-1]) / k.

A slope below 0 is no risk. A volatility above its limit is INSTABILITY whatever the slope. The limits came with the
idea of these levels and are not calibrated: `docs/spectral.md` has what they do on sound and on faulty runs.

Written again here because the emitter imports nothing of the analysis; `tests/emit/spectral/test_levels.py` holds both
equal, and the default limits equal to those of the policy file.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

__all__ = ["Reading", "RiskLevel", "RiskWindow", "SpectralLimits"]

_MAD_TO_SIGMA: Final = 1.4826
_LARGEST: Final = 1e300  # sums and differences of such numbers stay within a double
_MOST_READINGS: Final = 300  # the Theil-Sen slope takes all pairs


class RiskLevel(StrEnum):
    """How kappa moves, from the least to the most; ``rank`` puts them in order, 0 to 4."""

    STABLE = "STABLE"
    LEARNING = "LEARNING"
    WARNING = "WARNING"
    DANGER = "DANGER"
    INSTABILITY = "INSTABILITY"

    @property
    def rank(self) -> int:
        """Place in the order of the levels: 0 for STABLE, 4 for INSTABILITY."""
        return list(RiskLevel).index(self)


@dataclass(frozen=True, slots=True)
class SpectralLimits:
    """Where the levels begin, and how they are held.

    Attributes:
        learning: slope from which a level is LEARNING, as a fraction of kappa per step.
        warning: slope from which it is WARNING, the same unit.
        danger: slope from which it is DANGER, the same unit.
        volatility: volatility above which it is INSTABILITY, the same unit.
        window: readings of kappa that count, 2 to 300.
        fewest: readings below which there is no level, 2 to ``window``.
        hysteresis: consecutive readings of a lower level after which a level is left downwards, at least 1; 1 leaves it
            at once. Upwards it is always at once.

    Raises:
        ValueError: a limit is not a finite number of at least 0, the three slopes do not ascend, or a count is out of
            range.
    """

    learning: float = 0.0005
    warning: float = 0.002
    danger: float = 0.004
    volatility: float = 0.003
    window: int = 20
    fewest: int = 8
    hysteresis: int = 3

    def __post_init__(self) -> None:
        for name in ("learning", "warning", "danger", "volatility"):
            value: float = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0, not {value!r}")
        if not self.learning <= self.warning <= self.danger:
            raise ValueError(f"the slopes must ascend: {self.learning}, {self.warning}, {self.danger}")
        if not 2 <= self.fewest <= self.window <= _MOST_READINGS:
            raise ValueError(f"2 <= fewest <= window <= {_MOST_READINGS} must hold, not {self.fewest}, {self.window}")
        if self.hysteresis < 1:
            raise ValueError(f"hysteresis must be at least 1, not {self.hysteresis}")


@dataclass(frozen=True, slots=True)
class Reading:
    """Where kappa stands after a reading; all four None while fewer than ``fewest`` are in the window.

    Attributes:
        slope: fraction of the window's mean kappa gained per step.
        volatility: robust spread of the changes from reading to reading around that slope, the same unit.
        raw: level of this slope and volatility.
        level: the highest raw level of the last ``hysteresis`` readings.
    """

    slope: float | None = None
    volatility: float | None = None
    raw: RiskLevel | None = None
    level: RiskLevel | None = None


class RiskWindow:
    """The last readings of kappa, and the level they give.

    Args:
        limits: where the levels begin.
    """

    def __init__(self, limits: SpectralLimits | None = None) -> None:
        self.limits = SpectralLimits() if limits is None else limits
        self._points: deque[tuple[float, float]] = deque(maxlen=self.limits.window)
        self._raw: deque[RiskLevel] = deque(maxlen=self.limits.hysteresis)
        self._reading = Reading()

    @property
    def reading(self) -> Reading:
        """What the last counted reading gave."""
        return self._reading

    def add(self, step: int, kappa: float | None) -> Reading:
        """Take a reading in.

        Args:
            step: optimizer step, above that of the last reading.
            kappa: at least 1 by its meaning; None where it was not measured.

        Returns:
            Slope, volatility and level now. A kappa that is None, no finite number above 0, or of a step that is not
            above the last one, is passed over: nothing changes, and the last reading is returned.
        """
        if kappa is None or not 0 < kappa < _LARGEST or step > _LARGEST:
            return self._reading
        if self._points and step <= self._points[-1][0]:
            return self._reading
        self._points.append((float(step), float(kappa)))
        if len(self._points) >= self.limits.fewest:
            slope, volatility = _course(list(self._points))
            raw = self._level_of(slope, volatility)
            self._raw.append(raw)
            self._reading = Reading(slope, volatility, raw, max(self._raw, key=lambda level: level.rank))
        return self._reading

    def forget_after(self, step: int) -> None:
        """Drop the readings of later steps than this one, and the level they gave.

        For weights that were put back: what was measured on those that are gone says nothing about these. There is no
        level again until a reading comes and ``fewest`` are there.
        """
        kept = [point for point in self._points if point[0] <= step]
        if len(kept) < len(self._points):
            self._points = deque(kept, maxlen=self.limits.window)
            self._raw.clear()
            self._reading = Reading()

    def _level_of(self, slope: float, volatility: float) -> RiskLevel:
        limits = self.limits
        if volatility > limits.volatility:
            return RiskLevel.INSTABILITY
        for limit, level in (
            (limits.danger, RiskLevel.DANGER),
            (limits.warning, RiskLevel.WARNING),
            (limits.learning, RiskLevel.LEARNING),
        ):
            if slope >= limit:
                return level
        return RiskLevel.STABLE


def _course(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and volatility of kappa over the points, both relative to its mean."""
    mean = math.fsum(value for _, value in points) / len(points)
    changes = [(y2 - y1) / (x2 - x1) / mean for (x1, y1), (x2, y2) in pairwise(points)]
    slopes = [(y2 - y1) / (x2 - x1) for place, (x1, y1) in enumerate(points) for x2, y2 in points[place + 1 :]]
    slope = _median(slopes) / mean
    # Around the trend, not around the median of the changes: of changes that alternate, that is one of the two.
    return slope, _MAD_TO_SIGMA * _median([abs(change - slope) for change in changes])


def _median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones; summed by halves, so that huge ones do not overflow."""
    ordered = sorted(values)
    half, odd = divmod(len(ordered), 2)
    return ordered[half] if odd else ordered[half - 1] * 0.5 + ordered[half] * 0.5
