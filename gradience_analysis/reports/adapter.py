"""What an audit in the telemetry says about the adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from gradience_analysis.diagnostics.audit_record import KIND
from gradience_analysis.model import Event, Field, Fields, Run, Section, Table, as_number
from gradience_analysis.reports.format import count, number

_RANKS = {
    "stable_rank_mean": "stable rank {} (mean)",
    "effective_rank_mean": "effective rank {} (mean)",
    "energy_rank_90_p50": "rank for 90% of the energy {} (median)",
    "energy_rank_90_p90": "{} (90th percentile)",
}
_SUGGESTED = {"suggested_r_global_median": "{} (median)", "suggested_r_global_90": "{} (90th percentile)"}
_DOMINANCE = {"udr_median": "median {}", "udr_p90": "90th percentile {}", "udr_max": "largest {}"}
_BY_TYPE = {
    "n_layers": "modules",
    "params": "parameters",
    "stable_rank_mean": "stable rank",
    "utilization_mean": "utilization",
    "energy_rank_90_p50": "energy rank 90%",
}
_TYPES = ("attn", "mlp", "other")


def last_audit(run: Run) -> Event | None:
    """The newest audit of the run, or None."""
    audits = run.metrics.get(KIND, ())
    return audits[-1] if audits else None


def adapter_section(run: Run) -> Section | None:
    """The newest audit as fields and a table by module type; None without one that audited something."""
    event = last_audit(run)
    # That nothing was audited is a finding, and not said twice.
    if event is None or event.payload["metrics"].get("n_layers") == 0:
        return None
    metrics = cast("Mapping[str, Any]", event.payload["metrics"])
    at = "" if event.step is None else f" at step {event.step:,}"
    fields = [
        Field(
            "Audit",
            f"{_whole(metrics, 'n_layers', 'modules')}, {_whole(metrics, 'total_lora_params', 'parameters')}{at}",
        )
    ]
    fields += _line(metrics, "Ranks", _RANKS)
    fields += _line(metrics, "Utilization", {"utilization_mean": "{} of the rank (mean)"})
    fields += _line(metrics, "Suggested r", _SUGGESTED)
    fields += _line(metrics, "UDR", _DOMINANCE)
    table = _by_type(metrics.get("by_type"))
    return Section("Adapter", (Fields(tuple(fields)), *(() if table is None else (table,))))


def _whole(metrics: Mapping[str, Any], name: str, noun: str) -> str:
    value = as_number(metrics.get(name))
    return f"{noun} not recorded" if value is None or value != value else f"{count(int(value))} {noun}"  # noqa: PLR0124


def _line(metrics: Mapping[str, Any], label: str, words: Mapping[str, str]) -> list[Field]:
    parts = [
        text.format(number(value))
        for name, text in words.items()
        if (value := as_number(metrics.get(name))) is not None
    ]
    return [Field(label, " · ".join(parts))] if parts else []


def _by_type(value: object) -> Table | None:
    if not isinstance(value, dict):
        return None
    types = cast("Mapping[str, Any]", value)
    rows: list[tuple[str, ...]] = []
    for name in _TYPES:
        entry = types.get(name)
        if isinstance(entry, dict) and as_number(cast("Mapping[str, Any]", entry).get("n_layers")):
            values = cast("Mapping[str, Any]", entry)
            rows.append((name, *(number(as_number(values.get(key))) for key in _BY_TYPE)))
    if not rows:
        return None
    columns = ("type", *_BY_TYPE.values())
    return Table(columns, tuple(rows), frozenset(columns[1:]))
