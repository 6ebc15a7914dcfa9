"""What can be said about a run: one file each, and `every` with all of them in order.

Names are imported when they are first used: a check of an adapter or of a configuration asks its own questions and
needs none of these.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradience_analysis.diagnostics.base import Diagnosis, Diagnostic, diagnose
    from gradience_analysis.diagnostics.every import DIAGNOSTICS, diagnose_run

__all__ = ["DIAGNOSTICS", "Diagnosis", "Diagnostic", "diagnose", "diagnose_run"]

_HOMES = {
    "DIAGNOSTICS": "every",
    "Diagnosis": "base",
    "Diagnostic": "base",
    "diagnose": "base",
    "diagnose_run": "every",
}


def __getattr__(name: str) -> Any:
    """A public name, imported on first use and kept (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
