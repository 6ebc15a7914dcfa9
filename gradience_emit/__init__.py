"""Writes telemetry/v1 during training: `TelemetryWriter` for any loop, `hf.GradienceCallback` for Hugging Face's.

Importing this package imports the standard library only.
"""

from __future__ import annotations

from gradience_emit.emitter import MAX_LINE_BYTES, TelemetryWriter, describe_exception
from gradience_emit.redact import TextViolationError
from gradience_emit.segments import SegmentHead, find_segments

__all__ = [
    "MAX_LINE_BYTES",
    "SegmentHead",
    "TelemetryWriter",
    "TextViolationError",
    "describe_exception",
    "find_segments",
]
