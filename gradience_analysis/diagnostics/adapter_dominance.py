"""Adapter dominance: whether a module's update is large against the weight it changes.

Measured from the last `metrics` record of kind `lora_audit` that was made with the base model's norms: UDR (update
dominance ratio) = spectral norm of the update over that of the base weight, by module; its largest value against its
median, and the share of modules above 0.3.

An info when the largest ratio is above its limit, or far above the median, or many modules are above 0.3.

**Where it may be wrong.** UDR is a weak proxy: norms did not predict how much of the base's knowledge was lost, while
the KL divergence to the base on the new task did (arXiv 2509.04259). For DoRA the true ratio needs the base, and
initialisations that change the base (PiSSA, OLoRA, CorDA, LoRA-GA, LoftQ) start near or above 1 without any training:
then nothing is said. No limit is calibrated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradience_analysis.diagnostics.audit_record import AuditRecord, last_record
from gradience_analysis.model import Finding, Measurement, Run
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "udr_outliers": "The update of some modules is large against their base weights, or against the other modules.",
}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "audit_udr_max"
_BESIDE = ("udr_median", "udr_p90", "udr_mean", "fraction_udr_gt_0_1", "fraction_udr_gt_0_3", "n_layers_with_udr")
_HOW = "`gradience audit DIR --base-model PATH --append RUN.jsonl` measures it."
_CHANGES_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")


def measure(run: Run) -> tuple[Measurement, ...]:
    """The largest update dominance ratio of the last audit, with its median beside it."""
    record = last_record(run)
    if record is None:
        return (Measurement(NAME, None, "ratio", reason=f"no adapter audit was logged. {_HOW}"),)
    return measure_audit(record)


def measure_audit(record: AuditRecord) -> tuple[Measurement, ...]:
    """The same of one audit."""
    largest = record.number("udr_max")
    if largest is None or record.number("n_layers_with_udr") == 0:
        return (Measurement(NAME, None, "ratio", reason=f"the audit was made without the base's norms. {_HOW}"),)
    if changes_base(record.initialisation):
        reason = f"the initialisation {record.initialisation[:20]} changes the base, and the ratio means nothing then."
        return (Measurement(NAME, None, "ratio", reason=reason),)
    details: dict[str, Any] = {key: record.number(key) for key in _BESIDE}
    details["use_dora"] = record.use_dora
    return (Measurement(NAME, largest, "ratio", f"udr_max {record.source}", details=details, places=record.places),)


def changes_base(initialisation: str) -> bool:
    """Whether an initialisation of the factors takes something away from the base's weights.

    The adapter then starts with an update as large as what was taken, before any training.

    Args:
        initialisation: `init_lora_weights` in lower case.
    """
    return initialisation.startswith(_CHANGES_BASE)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An info when a ratio is large; never more, since the measure is weak."""
    (item,) = measurements
    if item.value is None:
        return []
    largest, median = float(item.value), item.details["udr_median"]
    share = item.details["fraction_udr_gt_0_3"]
    above = policy["adapter_dominance.udr_max"]
    spread = policy["adapter_dominance.max_over_median"]
    notable = policy["adapter_dominance.udr_notable"]
    many = policy["adapter_dominance.fraction_udr_gt_0_3"]
    beside = "" if median is None else f"; the median is {median:.3g}"
    if largest > above.value:
        limit, what = above, f"The update of a module is {largest:.3g} times its base weight (spectral norms){beside}."
    elif median and largest > notable.value and largest > spread.value * median:
        limit = spread
        what = f"The update of a module is {largest:.3g} of its base weight, {largest / median:.3g} times the median."
    elif share is not None and share > many.value:
        limit, what = many, f"In {share:.0%} of the modules the update is above 0.3 of the base weight{beside}."
    else:
        return []
    dora = "; for DoRA the true ratio is another one" if item.details["use_dora"] else ""
    return [
        Finding(
            code="udr_outliers",
            severity=Severity.INFO,
            message=what,
            evidence={**item.details, "udr_max": largest, "threshold": limit.value, "threshold_source": limit.source},
            advice="Evaluate the base's own abilities, too; if they suffer, try a lower learning rate or alpha.",
            confidence=0.3,
            basis=f"{item.source}; the threshold is {limit.standing}",
            caveat=f"UDR is a weak proxy: norms did not predict forgetting in arXiv 2509.04259{dora}",
            places=item.places,
        )
    ]
