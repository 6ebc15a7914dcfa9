"""The telemetry/v1 writer."""

from __future__ import annotations

from gradience_emit import TelemetryWriter, TextViolationError
from gradience_schema import SCHEMA_ID

__all__ = ["SCHEMA_ID", "TelemetryWriter", "TextViolationError"]
