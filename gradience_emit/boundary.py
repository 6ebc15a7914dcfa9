"""The one broad ``except`` of the house: a telemetry fault must never stop training.

Everything that runs inside somebody's training run, or calls code of theirs (a payload object's ``__str__``), goes
through one of the two functions here. `KeyboardInterrupt` and `SystemExit` are the user's and pass.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from gradience_emit.redact import TextViolationError

__all__ = ["HasFaults", "attempt", "never_raises"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class HasFaults(Protocol):
    """An object that counts and reports what went wrong inside it."""

    def report_fault(self, fault: Exception, where: str) -> None:
        """Count ``fault``; warn, with its traceback, the first time."""


_Self = TypeVar("_Self", bound=HasFaults)


def never_raises(method: Callable[Concatenate[_Self, _P], None]) -> Callable[Concatenate[_Self, _P], None]:
    """A method that hands any fault to ``self.report_fault`` instead of raising it.

    Only `TextViolationError` passes: it exists because the user asked for it with ``on_text_violation="raise"``.
    """

    @functools.wraps(method)
    def guarded(self: _Self, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except TextViolationError:
            raise
        except Exception as fault:  # noqa: BLE001 - the boundary
            self.report_fault(fault, method.__qualname__)

    return guarded


def attempt(action: Callable[[], _T], otherwise: Callable[[Exception], _T]) -> _T:
    """``action()``, or ``otherwise(fault)`` when foreign code inside it raised."""
    try:
        return action()
    except TextViolationError:
        raise
    except Exception as fault:  # noqa: BLE001 - the boundary, for foreign code
        return otherwise(fault)
