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

from gradience_analysis.diagnostics.adapter_rank import NO_QUANTITIES, audit_of, number
from gradience_analysis.model import Finding, Measurement, Run
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "udr_outliers": "The update of some modules is large against their base weights, or against the other modules.",
}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "audit_udr_max"
_BESIDE = ("udr_median", "udr_p90", "udr_mean", "fraction_udr_gt_0_1", "fraction_udr_gt_0_3", "n_layers_with_udr")
_CHANGES_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")


def measure(run: Run) -> tuple[Measurement, ...]:
    """The largest update dominance ratio of the last audit, with its median beside it."""
    audits = run.metrics.get("lora_audit", ())
    audit = audit_of(audits[-1]) if audits else NO_QUANTITIES
    largest = number(audit, "udr_max")
    layers = number(audit, "n_layers_with_udr")
    if largest is None or layers == 0:
        reason = "no audit with base norms was logged. Log udr_max among the metrics of kind lora_audit."
        return (Measurement(NAME, None, "ratio", reason=reason),)
    initialisation = run.config.lora.extras.get("init_lora_weights") if run.config else None
    if isinstance(initialisation, str) and initialisation.lower().startswith(_CHANGES_BASE):
        reason = f"the initialisation {initialisation[:20]} changes the base, and the ratio means nothing then."
        return (Measurement(NAME, None, "ratio", reason=reason),)
    details: dict[str, Any] = {key: number(audit, key) for key in _BESIDE}
    details["use_dora"] = bool(run.config and run.config.lora.use_dora)
    source = "udr_max of the last metrics record of kind lora_audit"
    return (Measurement(NAME, largest, "ratio", source, details=details, places=(run.place(audits[-1]),)),)


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
