"""The callback for the Hugging Face Trainer. It needs the extra `hf`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradience

if TYPE_CHECKING:
    from gradience_emit.hf import GradienceCallback, GradienceCallbackConfig

__all__ = ["GradienceCallback", "GradienceCallbackConfig"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use; see `gradience.__getattr__` for a missing extra."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(gradience, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
