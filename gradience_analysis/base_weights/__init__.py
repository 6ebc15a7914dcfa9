"""The weights of a base model, read from its safetensors files a few rows at a time, and the norms of their matrices.

No model class is imported, nothing is fetched, and no file is written but the cache that was asked for. Names are
imported when they are first used: matching names (`checkpoint`, `names`) takes no numpy, everything else does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradience_analysis.base_weights.dora import dora_norms
    from gradience_analysis.base_weights.norms import BaseNorm, BaseNorms, base_norms
    from gradience_analysis.base_weights.opened import BaseWeights, Match, open_base

__all__ = ["BaseNorm", "BaseNorms", "BaseWeights", "Match", "base_norms", "dora_norms", "open_base"]

_HOMES = {
    "BaseNorm": "norms",
    "BaseNorms": "norms",
    "BaseWeights": "opened",
    "Match": "opened",
    "base_norms": "norms",
    "dora_norms": "dora",
    "open_base": "opened",
}


def __getattr__(name: str) -> Any:
    """A public name, imported on first use and kept (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
