"""Two heat strips of an audit, projections by layers: how much of the rank is used, and where the energy lies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from gradience_analysis.audit import ModuleAudit
from gradience_analysis.audit.naming import MODULE_TYPES, projection
from gradience_analysis.model import Heat, HeatRow
from gradience_analysis.reports.format import clipped

MOST_ROWS = 12
"""More projections than these are shown by module type."""
_TOPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.75)
_LONGEST = 60
Cells = dict[str, dict[int, list[ModuleAudit]]]


def utilization_heat(rows: Sequence[ModuleAudit]) -> Heat | None:
    """Stable rank over r: of several modules in one cell the mean; None without a layer that has one."""
    cells = _cells(rows)
    used = [row.utilization for row in rows if row.layer is not None and not math.isnan(row.utilization)]
    if not cells or not used:
        return None
    high = next((top for top in _TOPS if max(used) <= top), 1.0)
    return _heat(
        cells, "Utilization", "stable rank / r", high, lambda several: _mean(row.utilization for row in several), "mean"
    )


def energy_heat(rows: Sequence[ModuleAudit]) -> Heat | None:
    """Share of the energy ‖delta_w‖_F² of all layers: of several modules in one cell the sum; None without energy."""
    cells = _cells(rows)
    total = math.fsum(row.energy for row in rows if row.layer is not None)
    if not cells or not total > 0 or not math.isfinite(total):
        return None
    shares = _heat(
        cells, "Energy", "share of all layers", 1.0, lambda several: sum(row.energy for row in several) / total, "sum"
    )
    high = max(value for row in shares.rows for value in row.values if value is not None)
    return Heat(
        shares.title, shares.unit, shares.columns, shares.rows, high,
        beside_label=shares.beside_label, percent=shares.percent,
    )  # fmt: skip


def _cells(rows: Sequence[ModuleAudit]) -> Cells:
    """Row of the strip → layer → modules; rows are projections, or module types where there are too many."""
    layered = sorted(
        (row for row in rows if row.layer is not None), key=lambda row: MODULE_TYPES.index(row.module_type)
    )
    both = {stack for row in layered for stack in [_stack(row.name)] if stack} == {"encoder", "decoder"}
    by_projection = _grouped(
        layered, lambda row: " ".join(filter(None, (_stack(row.name) if both else "", projection(row.name))))
    )
    if len(by_projection) <= MOST_ROWS:
        return by_projection
    return _grouped(layered, lambda row: row.module_type)


def _grouped(rows: Iterable[ModuleAudit], name: Callable[[ModuleAudit], str]) -> Cells:
    cells: Cells = {}
    for row in rows:
        if row.layer is not None:
            cells.setdefault(name(row), {}).setdefault(row.layer, []).append(row)
    return cells


def _stack(name: str) -> str:
    """Encoder and decoder each count their layers from 0."""
    parts = name.split(".")
    return next((stack for stack in ("encoder", "decoder") if stack in parts), "")


def _heat(  # noqa: PLR0917
    cells: Cells, title: str, unit: str, high: float, value: Callable[[list[ModuleAudit]], float], beside: str
) -> Heat:
    layers = sorted({layer for by_layer in cells.values() for layer in by_layer})
    rows: list[HeatRow] = []
    for name, by_layer in cells.items():
        values = tuple(value(by_layer[layer]) if layer in by_layer else None for layer in layers)
        there = [one for one in values if one is not None and not math.isnan(one)]
        told = math.fsum(there) if beside == "sum" else _mean(there)
        rows.append(HeatRow(clipped(name, _LONGEST), values, "" if math.isnan(told) else percent(told)))
    return Heat(title, unit, tuple(map(str, layers)), tuple(rows), high, beside_label=beside, percent=True)


def percent(share: float) -> str:
    """`0.42%`, `4.2%`, `42%`."""
    return f"{share * 100:.2g}%" if share < 0.1 else f"{share:.0%}"


def _mean(values: Iterable[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan
