"""Which recorded alerts a diagnostic speaks for itself, so that no report says them twice."""

from __future__ import annotations

from typing import Any, Final, cast

from gradience_analysis.model import Event

_NONFINITE_WORDS: Final = frozenset({"nan", "nans", "inf", "nonfinite"})
_GUARD: Final = "GUARD_"


def is_of_guard(alert: Event) -> bool:
    """Whether a guard raised it; `guard_activity` speaks for these."""
    return str(alert.payload["code"]).startswith(_GUARD)


def is_of_nonfinite(alert: Event) -> bool:
    """Whether it speaks of a NaN or infinite value, by its code or its trigger; `nonfinite_values` counts these."""
    trigger = context(alert).get("trigger", "")
    words = f"{alert.payload['code']} {trigger if isinstance(trigger, str) else ''}".lower().replace("_", " ")
    return "non finite" in words or not _NONFINITE_WORDS.isdisjoint(words.split())


def is_of_loss_scaler(alert: Event) -> bool:
    """Whether it is about gradients that overflowed under a float16 loss scaler, which then skips the step."""
    return context(alert).get("fp16_grad_scaler") is True and "GRAD" in str(alert.payload["code"])


def context(alert: Event) -> dict[str, Any]:
    """Its details; empty without any."""
    found = alert.payload.get("context")
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
