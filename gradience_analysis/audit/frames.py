"""Rows and totals as a pandas frame, which is imported when one is asked for, and as a table for a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from gradience_analysis.audit.module import ModuleAudit

if TYPE_CHECKING:
    import pandas as pd

_NESTED = ("shape", "ranks")
_WHOLE = ("layer", "r", "params", "energy_rank_90", "energy_rank_95", "energy_rank_99")


def modules_frame(rows: Sequence[ModuleAudit]) -> pd.DataFrame:
    """A row a module: the keys of `ModuleAudit.to_dict`, the shape as `out` and `in`, the ranks as `rank_<policy>`."""
    import pandas as pd

    frame = pd.DataFrame([_flat(row) for row in rows])
    return frame.astype({name: "Int64" for name in _WHOLE if name in frame})


def _flat(row: ModuleAudit) -> dict[str, Any]:
    plain = row.to_dict()
    flat = {name: value for name, value in plain.items() if name not in _NESTED}
    flat["out"], flat["in"] = row.shape
    return flat | {f"rank_{policy}": rank for policy, rank in row.ranks.items()}


def flat_totals(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The totals without nesting: those by type become columns such as `attn_utilization_mean`."""
    flat: dict[str, Any] = {}
    for name, value in summary.items():
        if name == "by_type":
            flat |= {f"{kind}_{key}": figure for kind, part in value.items() for key, figure in part.items()}
        elif name == "coverage":
            flat["coverage"] = value["share"]
        elif name == "energy_concentration":
            spread: dict[str, Any] = value or {}
            flat |= {f"energy_{key}": spread.get(key) for key in ("top_3", "top_10_percent", "herfindahl")}
        else:
            flat[name] = value
    return flat


def audit_html(title: str, summary: Mapping[str, Any]) -> str:
    """A short table of the totals, for a notebook."""
    rows = [
        (name, value)
        for name, value in flat_totals(summary).items()
        if value is not None and not isinstance(value, dict)
    ]
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{_cell(value)}</td></tr>" for name, value in rows)
    return f"<table><caption>{escape(title)}</caption><tbody>{cells}</tbody></table>"


def _cell(value: object) -> str:
    return escape(f"{value:,.4g}" if isinstance(value, float) else str(value))
