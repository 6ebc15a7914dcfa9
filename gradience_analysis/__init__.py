"""Reads telemetry/v1, measures what a run shows, judges it against a policy, and builds reports.

Four steps, one type each: files → `Run` → `Measurement` → `Finding` → `Report`. Renderers turn a
`Report` into text or JSON and compute nothing. Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradience_analysis.audit import AdapterAudit, audit_adapter, audit_adapters
    from gradience_analysis.compression import Compression, compress_adapter
    from gradience_analysis.diagnostics import Diagnosis, diagnose_run
    from gradience_analysis.errors import GradienceError
    from gradience_analysis.model import Event, Finding, Issue, Measurement, Report, Run, Segment
    from gradience_analysis.policy import Policy, load_policy
    from gradience_analysis.runs import Runs, load_runs
    from gradience_analysis.telemetry.assemble import load_run
    from gradience_analysis.telemetry.reader import TelemetryReader
    from gradience_analysis.telemetry.validate import ValidationReport, iter_issues, validate

__all__ = [
    "AdapterAudit",
    "Compression",
    "Diagnosis",
    "Event",
    "Finding",
    "GradienceError",
    "Issue",
    "Measurement",
    "Policy",
    "Report",
    "Run",
    "Runs",
    "Segment",
    "TelemetryReader",
    "ValidationReport",
    "audit_adapter",
    "audit_adapters",
    "compress_adapter",
    "diagnose_run",
    "iter_issues",
    "load_policy",
    "load_run",
    "load_runs",
    "validate",
]

_HOMES = {
    "AdapterAudit": "gradience_analysis.audit",
    "audit_adapter": "gradience_analysis.audit",
    "audit_adapters": "gradience_analysis.audit",
    "Compression": "gradience_analysis.compression",
    "compress_adapter": "gradience_analysis.compression",
    "Diagnosis": "gradience_analysis.diagnostics",
    "Policy": "gradience_analysis.policy",
    "diagnose_run": "gradience_analysis.diagnostics",
    "load_policy": "gradience_analysis.policy",
    "GradienceError": "gradience_analysis.errors",
    "Runs": "gradience_analysis.runs",
    "TelemetryReader": "gradience_analysis.telemetry.reader",
    "ValidationReport": "gradience_analysis.telemetry.validate",
    "iter_issues": "gradience_analysis.telemetry.validate",
    "load_run": "gradience_analysis.telemetry.assemble",
    "load_runs": "gradience_analysis.runs",
    "validate": "gradience_analysis.telemetry.validate",
}


def __getattr__(name: str) -> Any:
    """A public name, imported on first use and kept (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "gradience_analysis.model")), name)
    globals()[name] = value
    return value
