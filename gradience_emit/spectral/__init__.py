"""Live spectral monitoring of an adapter while it trains; experimental, and off unless asked for.

Importing the package loads nothing; torch is imported with the probe and the monitor, on first use (PEP 562).

- `levels`: risk levels from the course of kappa, without torch.
- `reading`: what one measurement holds, and which number stands for the run.
- `targets`, `factors`, `power`: which matrices there are, the spectra of adapters, power steps for full matrices.
- `measure`: `SpectralProbe`, which measures a model once.
- `monitor`: `SpectralMonitor`, which measures every so many steps and follows the level.
- `report`: `emit`, which writes a sample as telemetry.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradience_emit.spectral.levels import Reading, RiskLevel, RiskWindow, SpectralLimits
    from gradience_emit.spectral.measure import SpectralProbe
    from gradience_emit.spectral.monitor import SpectralMonitor
    from gradience_emit.spectral.reading import SpectralReading
    from gradience_emit.spectral.report import emit
    from gradience_emit.spectral.sample import SpectralSample, Wanted

__all__ = [
    "Reading",
    "RiskLevel",
    "RiskWindow",
    "SpectralLimits",
    "SpectralMonitor",
    "SpectralProbe",
    "SpectralReading",
    "SpectralSample",
    "Wanted",
    "emit",
]

_HOMES = {
    "Reading": "levels",
    "RiskLevel": "levels",
    "RiskWindow": "levels",
    "SpectralLimits": "levels",
    "SpectralMonitor": "monitor",
    "SpectralProbe": "measure",
    "SpectralReading": "reading",
    "SpectralSample": "sample",
    "Wanted": "sample",
    "emit": "report",
}


def __getattr__(name: str) -> Any:
    """A public name, imported on first use and kept."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
