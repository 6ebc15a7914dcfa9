"""Alpha: is alpha a positive number, and is alpha / r near what is usual?

`alpha / r` is the factor on the update of a LoRA adapter. Alpha must be a finite number above 0. Outside the
policy's range of `alpha / r` the finding is a warning: such a factor acts like a learning rate that is many times
smaller or larger. With rsLoRA the factor is `alpha / sqrt(r)`, and the ratio is not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.settings.quantity import (
    broken,
    by_name,
    change,
    evidence,
    in_words,
    standing,
    take,
    usable,
)
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {"alpha_invalid": "Alpha is no finite number above 0, or alpha / r is far from usual."}
COVERS: Mapping[str, frozenset[str]] = {}
_LIMITS = ("lora_alpha.lowest_ratio", "lora_alpha.highest_ratio")


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Alpha and its ratio to the rank."""
    alpha = take(subject, "lora.alpha", "lora_alpha", "alpha", absent="no alpha is set; set lora_alpha")
    rank, value = subject.number("lora.r"), usable(alpha)
    if subject.flag("lora.use_rslora"):
        reason = "use_rslora scales by alpha / sqrt(r), so that alpha / r has no usual range"
    elif not isinstance(rank, int) or rank < 1 or value is None or value <= 0:
        reason = "needs a valid rank and alpha"
    else:
        details = {**alpha.details, "alpha": value, "r": rank}
        return alpha, Measurement("alpha_over_r", value / rank, "ratio", alpha.source, details=details)
    return alpha, Measurement("alpha_over_r", None, "ratio", reason=reason)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error for an alpha that is none, a warning for a ratio outside the policy's range."""
    taken = by_name(measurements)
    alpha, ratio = taken["lora_alpha"], taken["alpha_over_r"]
    if alpha.details and alpha.details["fault"] != "null":
        value = usable(alpha)
        if value is None or value <= 0:
            message = f"Alpha is {in_words(alpha)} ({alpha.source}); it must be a finite number above 0."
            why = "the update is scaled by alpha / r, often 2"
            return [broken(alpha, "alpha_invalid", "C02", message, _twice(ratio), why)]
    # A rank that is refused for itself makes no ratio worth a word.
    if not isinstance(ratio.value, float) or ratio.details["r"] > policy.limit("lora_rank.highest"):
        return []
    lowest, highest = (policy.limit(name) for name in _LIMITS)
    if lowest <= ratio.value <= highest:
        return []
    return [_unusual(ratio, lowest, highest, standing(policy, *_LIMITS))]


def _unusual(ratio: Measurement, lowest: float, highest: float, basis: str) -> Finding:
    rank, value = ratio.details["r"], ratio.value
    side = "above" if isinstance(value, float) and value > highest else "below"
    effect = "up" if side == "above" else "down"
    return Finding(
        code="alpha_invalid",
        severity=Severity.WARNING,
        message=f"alpha / r is {value:.3g} (alpha {ratio.details['alpha']:g}, rank {rank:,}), {side} the usual "
        f"{lowest:g} to {highest:g}.",
        evidence=evidence(ratio, alpha_over_r=value, r=rank, range=[lowest, highest]),
        confidence=0.6,
        basis=basis,
        caveat="A learning rate that was tuned for this ratio can make up for it.",
        rule="C02",
        changes=(change(ratio, f"{2 * rank:g}", f"alpha = 2 r is usual; this scales the update {effect}"),),
    )


def _twice(ratio: Measurement) -> str:
    rank = ratio.details.get("r")
    return "2 r" if rank is None else f"{2 * rank:g}"
