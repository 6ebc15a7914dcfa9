"""Adapter rank: whether the adapter uses the rank it has, by the audit that the run logged.

Measured from the last `metrics` record of kind `lora_audit`; nothing is said without one. Its quantities, over the
audited modules: utilization = stable rank / r, with stable rank = sum of squared singular values over the largest
squared; energy rank = singular values that hold 90% of that sum; suggested rank = energy rank at its 90th percentile,
rounded up to a usual rank.

- `oversized_rank`: the suggested rank is a small part of an r of 8 or more. Parameters saved = parameters x
  (1 - suggested / r). Info; a warning only when both the share and the number of these parameters are large.
- `low_utilization`: the mean utilization is low, and no rank is suggested that says it better. Info.
- `low_use_mlp_targets`: MLP modules use their rank much less than attention does, and hold a good part of the
  parameters. Info.
- `rank_saturated`: the energy needs all of r, and the stable rank is high between 1 and r: r may be too small. Info.
  A rank of 1 is always filled, and is told so.
- `audit_empty`: the audit found no module, which says nothing about the adapter. Info.

**Where it may be wrong.** Advice on rank is a hypothesis. 90% of the energy under-suggests: on random adapters,
cutting to it moved the logits by a third to two thirds, and cutting to 99% by about a tenth. A planted rank of 5 in
r = 64 was read as 4 to 17 by 90% energy, and as 2.8 by stable rank. Where the suggestions differ, all are in the
evidence. Confirm on a held-out evaluation. No limit is calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from gradience_analysis.diagnostics.audit_record import AuditRecord, last_record, number_of
from gradience_analysis.model import Change, Finding, Measurement, Run
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "oversized_rank": "The adapter's rank is far above what the energy of its update needs.",
    "low_utilization": "The stable rank of the update is a small part of the adapter's rank.",
    "low_use_mlp_targets": "The MLP modules use their rank much less than the attention modules.",
    "rank_saturated": "The update fills the adapter's rank: the rank may be too small.",
    "audit_empty": "The logged audit found no module of an adapter.",
}
COVERS: Mapping[str, frozenset[str]] = {"oversized_rank": frozenset({"low_utilization"})}
_SUGGESTIONS = (
    "suggested_r_global_90",
    "suggested_r_global_median",
    "energy_rank_90_p90",
    "energy_rank_90_p50",
    "effective_rank_mean",
    "stable_rank_mean",
)
_RANKS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_CONFIRM = "90% of the energy under-suggests: confirm on a held-out evaluation before relying on it"
_NO_AUDIT = "no adapter audit was logged. `gradience audit DIR --append RUN.jsonl` logs one."


def measure(run: Run) -> tuple[Measurement, ...]:
    """Layers, utilization, suggested rank and the use of MLP modules, as the last audit has them."""
    record = last_record(run)
    if record is None:
        return (Measurement("audit_layers", None, "modules", reason=_NO_AUDIT), *_unmeasured(_NO_AUDIT))
    return measure_audit(record)


def measure_audit(record: AuditRecord) -> tuple[Measurement, ...]:
    """The same of one audit."""
    layers = record.number("n_layers")
    details = {"issues": _issues(record.quantities), "audits": record.audits}
    if layers is None:
        reason = "the audit does not say how many modules it covers (n_layers)."
        missing = Measurement("audit_layers", None, "modules", "", reason, details, record.places)
        return (missing, *_unmeasured(reason))
    source = f"n_layers {record.source}"
    count = Measurement("audit_layers", int(layers), "modules", source, "", details, record.places)
    if layers < 1:
        return (count, *_unmeasured("the audit covers no module. Audit a folder that holds an adapter."))
    return (count, _utilization(record), _suggested(record), _mlp(record))


def _unmeasured(reason: str) -> tuple[Measurement, ...]:
    units = {"audit_utilization": "fraction", "audit_suggested_rank": "rank", "audit_mlp_use": "ratio"}
    return tuple(Measurement(name, None, unit, reason=reason) for name, unit in units.items())


def _issues(audit: Mapping[str, Any]) -> list[str]:
    """The first remarks that the audit itself made."""
    remarks = audit.get("issues")
    if not isinstance(remarks, list):
        return []
    return [item[:200] for item in cast("list[Any]", remarks) if isinstance(item, str)][:3]


def _utilization(record: AuditRecord) -> Measurement:
    value = record.number("utilization_mean")
    rank = record.rank
    if value is None:
        return Measurement("audit_utilization", None, "fraction", reason="the audit has no utilization_mean.")
    details: dict[str, Any] = {"r": rank, "energy_rank_90_p90": record.number("energy_rank_90_p90")}
    if rank is not None and rank > 1:
        # The stable rank lies between 1 and r, so that of r = 2 at least half is always used.
        details["headroom_used"] = (value * rank - 1) / (rank - 1)
    return Measurement(
        "audit_utilization", value, "fraction", "utilization_mean of the audit", "", details, record.places
    )


def _suggested(record: AuditRecord) -> Measurement:
    name, unit = "audit_suggested_rank", "rank"
    rank = record.rank
    suggested = record.number("suggested_r_global_90")
    source = "suggested_r_global_90 of the audit"
    if suggested is None:
        energy = record.number("energy_rank_90_p90")
        suggested = None if energy is None else float(next((one for one in _RANKS if one >= energy), math.ceil(energy)))
        source = "energy_rank_90_p90 of the audit, rounded up to a usual rank"
    if suggested is None or suggested < 1:
        return Measurement(name, None, unit, reason="the audit suggests no rank.")
    if rank is None:
        reason = f"the audit suggests {suggested:g}, but the run does not say its rank. Log lora.r in run_start."
        return Measurement(name, None, unit, reason=reason)
    params = record.number("total_lora_params")
    saved = max(0.0, 1 - suggested / rank)
    details = {
        "r": rank,
        "saved_share": saved,
        "total_lora_params": None if params is None else int(params),
        "saved_params": None if params is None else int(params * saved),
        "suggestions": {key: value for key in _SUGGESTIONS if (value := record.number(key)) is not None},
        "rank_pattern": record.rank_pattern,
    }
    return Measurement(name, suggested, unit, source, details=details, places=record.places)


def _mlp(record: AuditRecord) -> Measurement:
    name, unit = "audit_mlp_use", "ratio"
    groups = record.quantities.get("by_type")
    by_type = cast("dict[str, Any]", groups) if isinstance(groups, dict) else {}
    parts = {key: cast("dict[str, Any]", part) for key, part in by_type.items() if isinstance(part, dict)}
    mlp, attention = (number_of(parts.get(key, {}), "utilization_mean") for key in ("mlp", "attn"))
    total = math.fsum(size for part in parts.values() if (size := number_of(part, "params")) is not None)
    if mlp is None or not attention or not total:
        reason = "the audit does not compare MLP and attention modules (by_type), or the adapter has only one of them."
        return Measurement(name, None, unit, reason=reason)
    params = number_of(parts["mlp"], "params") or 0.0
    details = {
        "mlp_utilization": mlp,
        "attention_utilization": attention,
        "mlp_params": int(params),
        "mlp_params_share": params / total,
    }
    return Measurement(
        name, mlp / attention, unit, "utilization_mean by type, of the audit", "", details, record.places
    )


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """What the audit says about the rank; nothing without an audit."""
    layers, utilization, suggested, mlp = measurements
    if layers.value == 0:
        return [_empty(layers)]
    judged = (_oversized(suggested, policy), _low(utilization, policy), _low_mlp(mlp, policy))
    return [finding for finding in (*judged, _saturated(utilization, policy)) if finding is not None]


def _empty(layers: Measurement) -> Finding:
    return Finding(
        code="audit_empty",
        severity=Severity.INFO,
        message="The audit covers no module of an adapter: it says nothing about this one.",
        evidence=dict(layers.details),
        advice="Audit the folder that the adapter was saved to.",
        basis="n_layers of the audit is 0",
        places=layers.places,
    )


def _oversized(item: Measurement, policy: Policy) -> Finding | None:
    limit = policy["adapter_rank.suggested_share"]
    if item.value is None:
        return None
    details, rank, suggested = item.details, item.details["r"], float(item.value)
    if suggested > limit.value * rank or rank < policy.limit("adapter_rank.smallest_rank"):
        return None
    saved = details["saved_params"]
    large = details["saved_share"] >= policy.limit("adapter_rank.warning_saved_share") and (saved or 0) >= policy.limit(
        "adapter_rank.warning_saved_params"
    )
    saving = f"{details['saved_share']:.0%} of its parameters" + ("" if saved is None else f", {saved:,}")
    why = f"it would save {saving}, if a held-out evaluation confirms it"
    return Finding(
        code="oversized_rank",
        severity=Severity.WARNING if large else Severity.INFO,
        message=f"90% of the update's energy fits in rank {suggested:g} of {rank}: {saving}, may not be needed.",
        evidence={**details, "suggested": suggested, "threshold": limit.value, "threshold_source": limit.source},
        advice=f"Try a rank between {suggested:g} and {rank // 2 or 1} in a run of its own, and compare both held out.",
        confidence=0.4,
        basis=f"{item.source}; the threshold is {limit.standing}",
        caveat=_CONFIRM + ("; ranks differ between modules here" if details["rank_pattern"] else ""),
        places=item.places,
        changes=(Change("lora.r", str(rank), f"{suggested:g}", why),),
    )


def _low(item: Measurement, policy: Policy) -> Finding | None:
    limit = policy["adapter_rank.low_utilization"]
    if item.value is None or float(item.value) >= limit.value:
        return None
    rank = item.details["r"]
    of = "" if rank is None else f" of r = {rank}"
    return Finding(
        code="low_utilization",
        severity=Severity.INFO,
        message=f"The stable rank of the update is {float(item.value):.0%}{of} on average, below {limit.value:.0%}.",
        evidence={
            **item.details,
            "utilization": item.value,
            "threshold": limit.value,
            "threshold_source": limit.source,
        },
        advice="Try half the rank in a run of its own, and compare held-out results.",
        confidence=0.3,
        basis=f"{item.source}; the threshold is {limit.standing}",
        caveat="a stable rank of 1 to 3 is usual for sound adapters, and small directions can matter",
        places=item.places,
        changes=(Change("lora.r", str(rank), str(rank // 2), "most of it is hardly used"),)
        if rank and rank > 1
        else (),
    )


def _low_mlp(item: Measurement, policy: Policy) -> Finding | None:
    limit, share = policy["adapter_rank.mlp_use"], policy["adapter_rank.mlp_params_share"]
    if item.value is None or float(item.value) >= limit.value or item.details["mlp_params_share"] < share.value:
        return None
    details = item.details
    used = f"{details['mlp_utilization']:.0%} of their rank, attention {details['attention_utilization']:.0%}"
    return Finding(
        code="low_use_mlp_targets",
        severity=Severity.INFO,
        message=f"MLP modules use {used}, and hold {details['mlp_params_share']:.0%} of the parameters.",
        evidence={**details, "ratio": item.value, "threshold": limit.value, "threshold_source": limit.source},
        advice="Try a lower rank for the MLP modules first (rank_pattern), and compare held-out results.",
        confidence=0.3,
        basis=f"{item.source}; the threshold is {limit.standing}",
        caveat=(
            "Biderman et al. 2024 (arXiv 2405.09673) and Schulman et al. 2025 (LoRA Without Regret) find that MLP "
            "modules matter most: a low stable rank does not show that they do nothing"
        ),
        places=item.places,
        changes=(Change("lora.rank_pattern", "not set for MLP", "half of r for MLP", "they use less of their rank"),),
    )


def _saturated(item: Measurement, policy: Policy) -> Finding | None:
    energy, rank = item.details.get("energy_rank_90_p90"), item.details.get("r")
    used = 1.0 if rank == 1 else item.details.get("headroom_used")
    filled, headroom = policy["adapter_rank.saturated_energy"], policy["adapter_rank.saturated_headroom"]
    if energy is None or rank is None or used is None or energy < filled.value * rank or used < headroom.value:
        return None
    return Finding(
        code="rank_saturated",
        severity=Severity.INFO,
        message=f"90% of the update's energy needs {energy:g} of {rank} dimensions: the rank may be too small.",
        evidence={
            **item.details,
            "utilization": item.value,
            "threshold": filled.value,
            "threshold_source": filled.source,
        },
        advice=f"If the training loss is still too high, try r = {rank * 2} in a run of its own.",
        confidence=0.2 if rank == 1 else 0.3,
        basis=f"the audit; the threshold is {filled.standing}",
        caveat=(
            "a rank of 1 is always filled, whether it is too small or not"
            if rank == 1
            else "noise spreads over all dimensions, too: a short or unstable run fills any rank"
        ),
        places=item.places,
        changes=(Change("lora.r", str(rank), str(rank * 2), "the update fills the rank it has"),),
    )
