"""How a public name is imported when it is first used, and what is said when its extra is not installed."""

from __future__ import annotations

import importlib
from typing import Any

_OURS = ("gradience", "gradience_emit", "gradience_analysis", "gradience_schema")


def imported(module: str, name: str, home: str, extra: str = "") -> Any:
    """A name from the module that defines it.

    Args:
        module: The public module that the name was asked of.
        name: The name.
        home: The module that defines it.
        extra: The extra that it needs; empty when it needs none.

    Raises:
        ImportError: The extra is not installed; the message says which.
        ModuleNotFoundError: The installation itself is broken.
    """
    try:
        return getattr(importlib.import_module(home), name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not extra or missing in _OURS:  # not a missing extra but a broken installation
            raise
        message = f"{module}.{name} needs {missing}: pip install 'gradience[{extra}]'"
        raise ImportError(message, name=error.name) from error
