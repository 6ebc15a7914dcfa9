"""The stable JSON artifact of `gradience audit`."""

from __future__ import annotations

from typing import Any

from gradience_analysis.audit import AdapterAudit
from gradience_analysis.model import Note
from gradience_analysis.reports.audit_ranks import Suggestions, per_layer_data, policies_data
from gradience_analysis.reports.audit_view import AuditView

SCHEMA = "gradience.audit/v1"
KEYS = (
    *("schema", "verdict", "path", "name", "judged", "config", "remarks", "summary", "coverage", "left_out"),
    *("whole_tensors", "findings", "measurements", "policies", "most_wasteful", "layer_data", "rank_suggestions"),
    *("base", "adapters"),
)
"""Every key of the artifact, each always there."""


def audit_data(audit: AdapterAudit, found: Suggestions | None, verdict: Note, view: AuditView) -> dict[str, Any]:
    """What was found of one adapter; what was not asked for, or cannot be said, is null.

    Args:
        audit: The audit.
        found: Suggested ranks; None for an audit without a module.
        verdict: The conclusion.
        view: What was asked for.
    """
    return {
        "schema": SCHEMA,
        "verdict": verdict_data(verdict),
        "path": str(audit.path),
        "name": audit.name,
        "judged": bool(audit.rows),
        "config": dict(audit.config),
        "remarks": list(audit.remarks),
        "summary": audit.summary,
        "coverage": {
            "audited": audit.coverage.audited,
            "lora_keys": audit.coverage.lora_keys,
            "share": audit.coverage.share,
        },
        "left_out": [
            {"module": one.module or None, "keys": list(one.keys), "reason": one.reason, "sentence": one.sentence}
            for one in audit.coverage.left_out
        ],
        "whole_tensors": list(audit.coverage.whole_tensors),
        "findings": [finding.to_dict() for finding in audit.findings],
        "measurements": [measurement.to_dict() for measurement in audit.measurements],
        "policies": None if found is None else policies_data(found),
        "most_wasteful": [] if found is None else [one.to_dict() for one in found.wasteful],
        "layer_data": {"layer_rows": _rows(audit, view)} if view.rows else None,
        "rank_suggestions": per_layer_data(audit, found, view)
        if found is not None and view.suggest_per_layer
        else None,
        "base": _base(audit),
        "adapters": [],
    }


def several_data(audits: list[dict[str, Any]], path: str, verdict: Note) -> dict[str, Any]:
    """Several adapters: each under `adapters`, and null where there is nothing to say of all of them."""
    nothing: dict[str, Any] = dict.fromkeys(KEYS)
    return nothing | {
        "schema": SCHEMA,
        "verdict": verdict_data(verdict),
        "path": path,
        "judged": all(audit["judged"] for audit in audits),
        "findings": [finding for audit in audits for finding in audit["findings"]],
        "adapters": audits,
    }


def verdict_data(verdict: Note) -> dict[str, str]:
    """A conclusion with its weight."""
    return {"severity": str(verdict.severity), "text": verdict.text}


def _rows(audit: AdapterAudit, view: AuditView) -> list[dict[str, Any]]:
    most = view.top_singular_values
    return [
        row.to_dict() | ({"singular_values": [float(value) for value in row.sigma[:most]]} if most else {})
        for row in audit.rows
    ]


def _base(audit: AdapterAudit) -> dict[str, Any] | None:
    base = audit.base
    if base is None:
        return None
    return {
        "path": str(base.path),
        "quantization": base.quantization or None,
        "tolerance": base.tolerance,
        "matched": base.matched,
        "cached": base.cached,
        "remarks": list(base.remarks),
        "unmatched": [{"module": row.name, "reason": row.base_reason} for row in audit.rows if row.base is None],
    }
