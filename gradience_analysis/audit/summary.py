"""The totals of an audit, under the names that `lora_audit` metrics have in telemetry/v1."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gradience_analysis.audit.coverage import Coverage
from gradience_analysis.audit.energy import concentration
from gradience_analysis.audit.module import ModuleAudit
from gradience_analysis.audit.naming import MODULE_TYPES
from gradience_analysis.audit.ranks import DEFAULT_POLICY
from gradience_analysis.audit.suggestion import suggest
from gradience_analysis.linalg import percentile

UDR_MARKS = (0.1, 0.3)
"""Ratios above which modules are counted in `fraction_udr_gt_0_1` and `fraction_udr_gt_0_3`."""


def summary_of(rows: Sequence[ModuleAudit], coverage: Coverage, *, with_base: bool) -> dict[str, Any]:
    """Every total, as plain JSON types; what is undefined or was not measured is None.

    Means and percentiles (linear interpolation) are over the modules for which the quantity is defined;
    `stable_rank_weighted_mean` is weighted by parameters. A ratio to base weights that are all zero is infinite: it
    counts in the fractions above a mark, and in no other figure. Keys of the base (`udr_*`, `sdi_*`) are there only
    when a base was given.
    """
    suggestion = suggest(rows, DEFAULT_POLICY)
    found: dict[str, Any] = {
        "total_lora_params": sum(row.params for row in rows),
        "n_layers": len(rows),
        "stable_rank_mean": _mean(row.stable_rank for row in rows),
        "stable_rank_median": _at(50, (row.stable_rank for row in rows)),
        "stable_rank_weighted_mean": _weighted(rows),
        "effective_rank_mean": _mean(row.effective_rank for row in rows),
        "utilization_mean": _mean(row.utilization for row in rows),
    }
    for share in (0.90, 0.95, 0.99):
        ranks = [float(row.energy_ranks[share]) for row in rows]
        found |= {f"energy_rank_{round(share * 100)}_{name}": _at(at, ranks) for name, at in (("p50", 50), ("p90", 90))}
    found["by_type"] = {kind: _of_type([row for row in rows if row.module_type == kind]) for kind in MODULE_TYPES}
    found["suggested_r_global_median"] = suggestion.global_median if rows else None
    found["suggested_r_global_90"] = suggestion.global_90 if rows else None
    found |= _spread("delta_sigma_max_scaled", [row.spectral_norm for row in rows])
    found |= _spread("delta_frob_norm_scaled", [row.frobenius_norm for row in rows])
    spread = concentration(rows)
    found["energy_concentration"] = None if spread is None else spread.to_dict()
    found["coverage"] = {"audited": coverage.audited, "lora_keys": coverage.lora_keys, "share": coverage.share}
    if with_base:
        found |= _against_base(rows)
    return found


def _against_base(rows: Sequence[ModuleAudit]) -> dict[str, Any]:
    udr = [row.udr for row in rows if row.udr is not None and not math.isnan(row.udr)]
    sdi = [row.sdi for row in rows if row.sdi is not None]
    above = {f"fraction_udr_gt_{str(mark).replace('.', '_')}": mark for mark in UDR_MARKS}
    return {
        "udr_median": _at(50, udr),
        "udr_p90": _at(90, udr),
        "udr_max": _over(udr, max),
        "udr_mean": _mean(udr),
        **{key: sum(one > mark for one in udr) / len(udr) if udr else None for key, mark in above.items()},
        "n_layers_with_udr": len(udr),
        "udr_f_median": _at(50, (row.udr_f for row in rows if row.udr_f is not None)),
        "sdi_median": _at(50, sdi),
        "sdi_p90": _at(90, sdi),
        "sdi_mean": _mean(sdi),
    }


def _of_type(rows: Sequence[ModuleAudit]) -> dict[str, Any]:
    ranks = [float(row.energy_ranks[0.90]) for row in rows]
    return {
        "n_layers": len(rows),
        "params": sum(row.params for row in rows),
        "stable_rank_mean": _mean(row.stable_rank for row in rows),
        "utilization_mean": _mean(row.utilization for row in rows),
        "energy_rank_90_p50": _at(50, ranks),
        "energy_rank_90_p90": _at(90, ranks),
    }


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    return {f"{name}_mean": _mean(values), f"{name}_p50": _at(50, values), f"{name}_p90": _at(90, values)}


def _weighted(rows: Sequence[ModuleAudit]) -> float | None:
    defined = [row for row in rows if not math.isnan(row.stable_rank)]
    total = sum(row.params for row in defined)
    return math.fsum(row.stable_rank * row.params for row in defined) / total if total else None


def _mean(values: Iterable[float]) -> float | None:
    return _over(values, lambda defined: math.fsum(defined) / len(defined))


def _at(share: float, values: Iterable[float]) -> float | None:
    return _over(values, lambda defined: percentile(defined, share))


def _over(values: Iterable[float], take: Callable[[list[float]], float]) -> float | None:
    """A figure over the values that are defined and finite; None without any."""
    defined = [value for value in values if math.isfinite(value)]
    return take(defined) if defined else None
