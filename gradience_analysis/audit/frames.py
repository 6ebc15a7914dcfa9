"""Audits as pandas frames; imported only when a frame is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradience_analysis.audit.measuring import audit_adapter
from gradience_analysis.audit.result import AdapterAudit, ModuleAudit

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


def audit_adapters(paths: Iterable[str | Path], base: str | Path | None = None, **options: Any) -> pd.DataFrame:
    """A row an adapter: its folder, its name and the totals of its audit.

    The nested totals by type become columns such as `attn_utilization_mean`.

    Args:
        paths: Folders of adapters.
        base: The base model that all of them were trained on, for the update dominance ratio.
        options: As for `audit_adapter`.

    Raises:
        InputError: One of them cannot be read.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for path in paths:
        audit = audit_adapter(path, base, **options)
        rows.append({"path": str(path), "name": audit.name, "r": audit.r, **_totals(audit)})
    return pd.DataFrame(rows)


def _totals(audit: AdapterAudit) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in audit.summary.items():
        if name == "by_type":
            flat |= {f"{kind}_{key}": figure for kind, part in value.items() for key, figure in part.items()}
        elif name == "coverage":
            flat["coverage"] = value["share"]
        elif name == "energy_concentration":
            spread: dict[str, Any] = value or {}
            flat |= {f"energy_{key}": spread.get(key) for key in ("top_3", "top_10_percent", "herfindahl")}
        else:
            flat[name] = value
    flat["findings"] = len(audit.findings)
    return flat


def audit_html(audit: AdapterAudit) -> str:
    """A short table of the totals, for a notebook."""
    rows = [
        (name, value) for name, value in _totals(audit).items() if value is not None and not isinstance(value, dict)
    ]
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{_cell(value)}</td></tr>" for name, value in rows)
    return f"<table><caption>{escape(audit.name)}</caption><tbody>{cells}</tbody></table>"


def _cell(value: object) -> str:
    return escape(f"{value:,.4g}" if isinstance(value, float) else str(value))
