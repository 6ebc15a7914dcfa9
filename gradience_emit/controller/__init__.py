"""The guard and telemetry in a training loop of one's own: `GradienceController`; experimental.

Importing the package loads nothing; torch is imported with the controller, on first use (PEP 562).

- `controller`: `GradienceController`, the ways to use it.
- `options`: its options.
- `updates`: a loop whose optimizer can be stopped before its step; `hooks` are how it is told of them, `schedule` how
  it tells a schedule that moves with the updates from one that moves with the epochs.
- `applied`: a loop that says what happened after it has happened, with its own save and load functions.
- `journal`, `description`: the telemetry.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradience_emit.controller.controller import GradienceController
    from gradience_emit.controller.updates import GuardAbortError
    from gradience_emit.guard.refusal import GuardUnsupportedError

__all__ = ["GradienceController", "GuardAbortError", "GuardUnsupportedError"]

_HOMES = {
    "GradienceController": "gradience_emit.controller.controller",
    "GuardAbortError": "gradience_emit.controller.updates",
    "GuardUnsupportedError": "gradience_emit.guard.refusal",
}


def __getattr__(name: str) -> Any:
    """A public name, imported on first use and kept."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
