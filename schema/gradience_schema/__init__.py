"""The telemetry/v1 contract: its JSON Schema, and its values as frozen dataclasses.

Standard library only, and lazy: importing this package reads no file and builds no class, because every training
process that records telemetry imports it. A name is loaded when it is first used.

Attributes:
    SCHEMA_ID: The ``schema`` field of every telemetry/v1 record.
    EVENT_TYPES: The event types that have a schema in v1, sorted by name; read from the event schema files.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradience_schema.catalogue import (
        EVENT_TYPES,
        UnknownSchemaError,
        load_schema,
        registry,
        schema_files,
        schema_versions,
    )
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
    "EVENT_TYPES",
    "SCHEMA_ID",
    "ConfigSnapshot",
    "LoraSnapshot",
    "OptimizerSnapshot",
    "Recommendation",
    "RunStatus",
    "Severity",
    "TaskProfile",
    "TrainingSnapshot",
    "UnknownSchemaError",
    "load_schema",
    "registry",
    "schema_files",
    "schema_versions",
]

SCHEMA_ID = "gradience.vnext.telemetry/v1"

_IN_CATALOGUE = {
    "EVENT_TYPES",
    "UnknownSchemaError",
    "load_schema",
    "registry",
    "schema_files",
    "schema_versions",
}


def __getattr__(name: str) -> Any:
    """A public name, imported on first use and kept (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "catalogue" if name in _IN_CATALOGUE else "types"
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
