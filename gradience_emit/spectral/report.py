"""Writes a sample of the spectral monitor as telemetry/v1."""

from __future__ import annotations

from typing import Any, Final

from gradience_emit.emitter import TelemetryWriter
from gradience_emit.spectral.levels import RiskLevel
from gradience_emit.spectral.sample import SpectralSample

__all__ = ["CODE", "emit"]

CODE: Final = "SPECTRAL_RISK"
"""Code of the alert."""
_ALERTED: Final = frozenset({RiskLevel.WARNING, RiskLevel.DANGER, RiskLevel.INSTABILITY})


def emit(writer: TelemetryWriter, step: int, sample: SpectralSample) -> None:
    """Write metrics of kind ``spectral`` and ``structural``, and an alert when the level rose to WARNING or above.

    The alert ``SPECTRAL_RISK`` is an info, since sound runs reach these levels too; a level that stays or falls says
    nothing. What the sample wants is in the alert's context.

    Args:
        writer: where to; like all its methods, this does not raise.
        step: optimizer step of the records.
        sample: what the monitor gave.
    """
    writer.metrics(step, kind="spectral", metrics=sample.spectral())
    writer.metrics(step, kind="structural", metrics=sample.structural())
    if sample.level in _ALERTED and sample.raised:
        writer.alert(
            severity="info",
            code=CODE,
            message=_sentence(sample),
            step=step,
            context=_context(sample),
        )


def _sentence(sample: SpectralSample) -> str:
    if sample.level is RiskLevel.INSTABILITY:
        what = f"kappa jumps from reading to reading (volatility {_percent(sample.volatility)} a step)"
    else:
        what = f"kappa rises by {_percent(sample.slope)} a step"
    return f"spectral risk {sample.level}: {what}; experimental, the limits are not calibrated"


def _context(sample: SpectralSample) -> dict[str, Any]:
    return {
        "level": sample.level,
        "previous": sample.previous,
        "kappa": sample.kappa,
        "slope": sample.slope,
        "volatility": sample.volatility,
        "wanted": sample.wanted,
    }


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2%}"
