"""The audit of an adapter's files. It needs the extra `analysis`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradience.lazy import imported

if TYPE_CHECKING:
    from gradience_analysis.audit.peft_dir import LoraAuditResult, audit_lora_peft_dir

__all__ = ["LoraAuditResult", "audit_lora_peft_dir"]

_HOME = "gradience_analysis.audit.peft_dir"


def __getattr__(name: str) -> Any:
    """Import a public name on first use.

    Raises:
        AttributeError: No public name is spelled so.
        ImportError: The extra is not installed; the message says which.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = imported(__name__, name, _HOME, "analysis")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
