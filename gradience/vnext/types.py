"""The values of the telemetry/v1 contract."""

from __future__ import annotations

from gradience_schema.types import (
    ConfigSnapshot,
    LoraSnapshot,
    OptimizerSnapshot,
    Recommendation,
    RunStatus,
    Severity,
    TaskProfile,
    TrainingSnapshot,
)

__all__ = [
    "ConfigSnapshot",
    "LoraSnapshot",
    "OptimizerSnapshot",
    "Recommendation",
    "RunStatus",
    "Severity",
    "TaskProfile",
    "TrainingSnapshot",
]
