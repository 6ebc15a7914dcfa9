"""What can be said about a run: one file each, in the order in which a report lists them."""

from __future__ import annotations

from gradience_analysis.diagnostics import (
    generalization_gap,
    nonfinite_values,
    recorded_alerts,
    run_status,
    telemetry_quality,
)
from gradience_analysis.diagnostics.base import Diagnosis, Diagnostic, diagnose

DIAGNOSTICS: tuple[Diagnostic, ...] = (
    run_status,
    nonfinite_values,
    generalization_gap,
    recorded_alerts,
    telemetry_quality,
)

__all__ = ["DIAGNOSTICS", "Diagnosis", "Diagnostic", "diagnose"]
