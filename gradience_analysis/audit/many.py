"""Many adapters at once, a row each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradience_analysis.audit.frames import flat_totals
from gradience_analysis.audit.measuring import audit_adapter

if TYPE_CHECKING:
    import pandas as pd


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
        totals = flat_totals(audit.summary)
        rows.append({"path": str(path), "name": audit.name, "r": audit.r, **totals, "findings": len(audit.findings)})
    return pd.DataFrame(rows)
