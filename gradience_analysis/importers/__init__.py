"""Training logs of other tools, read as telemetry/v1 events: one module for each format.

The names are loaded when they are first used, so that reading a telemetry/v1 file brings none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradience_analysis.importers.base import Importer
    from gradience_analysis.importers.registry import IMPORTERS, find_importer, importer_named, importer_names

_HOMES = {
    "IMPORTERS": "registry",
    "Importer": "base",
    "find_importer": "registry",
    "importer_named": "registry",
    "importer_names": "registry",
}

__all__ = ["IMPORTERS", "Importer", "find_importer", "importer_named", "importer_names"]


def __getattr__(name: str) -> Any:
    """A public name, imported on first use and kept (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
