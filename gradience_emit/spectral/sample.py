"""One sample of the monitor: a measurement, where kappa stands, and what is wanted of the guard."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gradience_emit.spectral.levels import Reading, RiskLevel
from gradience_emit.spectral.reading import SpectralReading

__all__ = ["SpectralSample", "Wanted"]


class Wanted(StrEnum):
    """What a sample asks of whoever can act; nothing is done here."""

    NOTHING = "nothing"
    SNAPSHOT = "snapshot"
    BACKOFF = "backoff"
    """A snapshot at once, and a lower learning rate."""
    ROLLBACK = "rollback"
    HALT = "halt"


@dataclass(frozen=True, slots=True)
class SpectralSample:
    """One sample.

    Attributes:
        step: optimizer step.
        reading: what was measured.
        course: slope, volatility and level of kappa up to here; each None while there are too few readings.
        previous: the level before this sample; None where there was none.
        wanted: what is asked of the guard; ``NOTHING`` unless the monitor's actions are on.
    """

    step: int
    reading: SpectralReading
    course: Reading
    previous: RiskLevel | None = None
    wanted: Wanted = Wanted.NOTHING

    @property
    def kappa(self) -> float | None:
        """The run's kappa; None where it was not measured."""
        return self.reading.kappa

    @property
    def slope(self) -> float | None:
        """Fraction of the window's mean kappa gained per step."""
        return self.course.slope

    @property
    def volatility(self) -> float | None:
        """Robust spread of the changes of kappa around the slope, the same unit."""
        return self.course.volatility

    @property
    def level(self) -> RiskLevel | None:
        """The level that is held; None while there are too few readings."""
        return self.course.level

    @property
    def changed(self) -> bool:
        """Whether this sample changed the level; its first level is a change."""
        return self.level is not self.previous

    @property
    def raised(self) -> bool:
        """Whether this sample changed the level upwards; a first level above STABLE is upwards."""
        before = RiskLevel.STABLE if self.previous is None else self.previous
        return self.level is not None and self.level.rank > before.rank

    def spectral(self) -> dict[str, Any]:
        """The metrics of kind ``spectral``; None for what was not measured."""
        reading, worst = self.reading, self.reading.worst
        return {
            "kappa": reading.kappa,
            "sigma_max": reading.sigma_max,
            "sigma_min": reading.sigma_min,
            "slope": self.slope,
            "volatility": self.volatility,
            "risk_level": None if self.level is None else self.level.value,
            "kappa_source": reading.source,
            "modules": len(reading.adapters) + len(reading.matrices),
            "nonfinite": reading.nonfinite,
            "worst_module": None if worst is None else worst[0],
            "worst_kappa": None if worst is None else worst[1],
            "stable_rank_median": reading.stable_rank_median,
            "utilization_mean": reading.utilization_mean,
            "residual": reading.residual,
            "cost_ms": round(reading.cost_ms, 3),
        }

    def structural(self) -> dict[str, Any]:
        """The metrics of kind ``structural``; None for what was not measured."""
        reading = self.reading
        return {
            "muon_ratio": reading.muon_ratio,
            "sigma_max_mean": reading.sigma_max_mean,
            "update_norm": reading.update_norm,
            "adapters": len(reading.adapters),
            "matrices": len(reading.matrices),
            "dora": sum(item.dora for item in reading.adapters),
            "skipped": reading.skipped,
            "recomputed": reading.recomputed,
        }
