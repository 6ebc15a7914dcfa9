"""Many runs as one folder of Parquet files that is brought up to date instead of made anew; JSONL stays the truth.

Names are imported when they are first used: asking whether a folder is a store must not load pyarrow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradience_analysis.store.intake import ingest
    from gradience_analysis.store.opened import Store, open_store
    from gradience_analysis.store.outcome import Ingested
    from gradience_analysis.store.place import is_store

__all__ = ["Ingested", "Store", "ingest", "is_store", "open_store"]

_HOMES = {
    "Ingested": "gradience_analysis.store.outcome",
    "Store": "gradience_analysis.store.opened",
    "ingest": "gradience_analysis.store.intake",
    "is_store": "gradience_analysis.store.place",
    "open_store": "gradience_analysis.store.opened",
}


def __getattr__(name: str) -> Any:
    """A public name, imported on first use and kept (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
