"""Flight recorder for LoRA / PEFT training: the public names.

Everything here is defined elsewhere and imported on first use, so `import gradience` costs a few milliseconds
and neither torch nor pandas. `pip install gradience` brings the writer; `GradienceCallback` and `GradienceController`
need the extra `hf`, and reading runs back needs the extra `analysis`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradience.lazy import imported

if TYPE_CHECKING:
    from gradience_analysis import (
        AdapterAudit,
        Compression,
        Diagnosis,
        Finding,
        GradienceError,
        Policy,
        Run,
        Runs,
        TelemetryReader,
        audit_adapter,
        audit_adapters,
        compress_adapter,
        diagnose_run,
        iter_issues,
        load_policy,
        load_run,
        load_runs,
        validate,
    )
    from gradience_emit import TelemetryWriter, TextViolationError
    from gradience_emit.controller import GradienceController, GuardAbortError, GuardUnsupportedError
    from gradience_emit.hf import GradienceCallback, GradienceCallbackConfig
    from gradience_emit.memory import clean_up_device_memory
    from gradience_schema import (
        EVENT_TYPES,
        SCHEMA_ID,
        ConfigSnapshot,
        LoraSnapshot,
        OptimizerSnapshot,
        Recommendation,
        RunStatus,
        Severity,
        TaskProfile,
        TrainingSnapshot,
        load_schema,
    )

__all__ = [
    "EVENT_TYPES",
    "SCHEMA_ID",
    "AdapterAudit",
    "Compression",
    "ConfigSnapshot",
    "Diagnosis",
    "Finding",
    "GradienceCallback",
    "GradienceCallbackConfig",
    "GradienceController",
    "GradienceError",
    "GuardAbortError",
    "GuardUnsupportedError",
    "LoraSnapshot",
    "OptimizerSnapshot",
    "Policy",
    "Recommendation",
    "Run",
    "RunStatus",
    "Runs",
    "Severity",
    "TaskProfile",
    "TelemetryReader",
    "TelemetryWriter",
    "TextViolationError",
    "TrainingSnapshot",
    "__version__",
    "audit_adapter",
    "audit_adapters",
    "clean_up_device_memory",
    "compress_adapter",
    "diagnose_run",
    "iter_issues",
    "load_policy",
    "load_run",
    "load_runs",
    "load_schema",
    "validate",
]

__version__ = "0.1.0"  # the same as in pyproject.toml; a test holds them together

_EMIT = "gradience_emit"
_HF = "gradience_emit.hf"
_CONTROLLER = "gradience_emit.controller"
_ANALYSIS = "gradience_analysis"
_SCHEMA = "gradience_schema"
_HOMES = {
    "TelemetryWriter": _EMIT,
    "TextViolationError": _EMIT,
    "GradienceCallback": _HF,
    "GradienceCallbackConfig": _HF,
    "GradienceController": _CONTROLLER,
    "GuardAbortError": _CONTROLLER,
    "GuardUnsupportedError": _CONTROLLER,
    "clean_up_device_memory": "gradience_emit.memory",
    "AdapterAudit": _ANALYSIS,
    "Compression": _ANALYSIS,
    "Diagnosis": _ANALYSIS,
    "Finding": _ANALYSIS,
    "GradienceError": _ANALYSIS,
    "Policy": _ANALYSIS,
    "Run": _ANALYSIS,
    "Runs": _ANALYSIS,
    "TelemetryReader": _ANALYSIS,
    "audit_adapter": _ANALYSIS,
    "audit_adapters": _ANALYSIS,
    "compress_adapter": _ANALYSIS,
    "diagnose_run": _ANALYSIS,
    "iter_issues": _ANALYSIS,
    "load_policy": _ANALYSIS,
    "load_run": _ANALYSIS,
    "load_runs": _ANALYSIS,
    "validate": _ANALYSIS,
}
_EXTRAS = {_HF: "hf", _CONTROLLER: "hf", _ANALYSIS: "analysis"}


def __getattr__(name: str) -> Any:
    """Import a public name from its home and keep it (PEP 562).

    Raises:
        AttributeError: No public name is spelled so.
        ImportError: The name's extra is not installed; the message says which.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES.get(name, _SCHEMA)
    value = imported(__name__, name, home, _EXTRAS.get(home, ""))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
