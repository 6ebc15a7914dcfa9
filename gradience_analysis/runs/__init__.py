"""Many runs as frames: `load_runs`, `Runs`, and the accessor `df.gradience`, which comes with either.

Names are imported when they are first used: a process that only reads files must not load pandas.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradience_analysis.runs.accessor import GradienceAccessor
    from gradience_analysis.runs.collection import Runs
    from gradience_analysis.runs.load import load_runs

__all__ = ["GradienceAccessor", "Runs", "load_runs"]

_HOMES = {
    "GradienceAccessor": "gradience_analysis.runs.accessor",
    "Runs": "gradience_analysis.runs.collection",
    "load_runs": "gradience_analysis.runs.load",
}


def __getattr__(name: str) -> Any:
    """A public name, imported on first use and kept (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
