"""The Hugging Face callback: `GradienceCallback` in `callback`, its options in `config`, what serves it beside them.

Importing the package loads nothing; transformers is imported with the callback, on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradience_emit.hf.callback import GradienceCallback
    from gradience_emit.hf.config import GradienceCallbackConfig
    from gradience_emit.hf.guarding import GuardUnsupportedError

__all__ = ["GradienceCallback", "GradienceCallbackConfig", "GuardUnsupportedError"]

_HOMES = {"GradienceCallback": "callback", "GradienceCallbackConfig": "config", "GuardUnsupportedError": "guarding"}


def __getattr__(name: str) -> Any:
    """A public name, imported on first use and kept."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
