"""Muon ratio: how hard weight decay pulls on the weights, against an update of spectral norm 1.

Muon moves a weight by an update U of spectral norm 1 and decays it: W <- W - lr (U + wd W). So

    ratio = weight decay x spectral norm of W

is the pull of the decay over the push of the update. Where the two are in balance the ratio is 1: the weights settle at
a spectral norm of at most 1 / wd (Chen, Li and Liu 2025, arXiv 2506.15054). Above 1 the decay is the stronger and the
weights shrink, whatever the gradient says.

Measured from `muon_ratio` of `metrics` records of kind `structural` (the last one), or else from the configured
weight decay times the mean `sigma_max` of the last 20 `metrics` records of kind `spectral`. A ratio above the limit is
an info.

**Where it may be wrong.** The bound belongs to Muon. Another optimizer, such as AdamW, makes updates of another size,
and the ratio is then an orientation only. The limit is not calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from gradience_analysis.model import Event, Finding, Measurement, Run, as_number
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "muon_ratio_high": "Weight decay pulls harder on the weights than an update of norm 1 pushes.",
}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "muon_ratio"
WINDOW = 20


def measure(run: Run) -> tuple[Measurement, ...]:
    """Weight decay times spectral norm: as logged, or from the configured decay and the logged norms."""
    optimizer = run.config.optimizer if run.config else None
    details: dict[str, Any] = {
        "optimizer": optimizer.name if optimizer else None,
        "weight_decay": optimizer.weight_decay if optimizer else None,
    }
    for event in reversed(run.metrics.get("structural", ())):
        ratio = _positive(_metrics(event).get(NAME))
        if ratio is not None:
            source = f"muon_ratio of metrics records of kind structural{_at(event.step)}"
            return (Measurement(NAME, ratio, "ratio", source, details=details, places=(run.place(event),)),)
    decay = optimizer.weight_decay if optimizer else None
    norms = [(event, norm) for event in run.metrics.get("spectral", ()) if (norm := _norm(event)) is not None][-WINDOW:]
    if not norms or decay is None or not 0 <= decay < 1e6:
        what = "no weight decay is configured" if norms else "no spectral norm was logged"
        reason = f"{what}. Log muon_ratio (metrics of kind structural), or weight_decay and sigma_max (kind spectral)."
        return (Measurement(NAME, None, "ratio", reason=reason, details=details),)
    mean = math.fsum(norm for _, norm in norms) / len(norms)
    details |= {"sigma_max_mean": mean, "readings": len(norms)}
    source = f"weight_decay x mean sigma_max of {len(norms)} metrics records of kind spectral"
    return (Measurement(NAME, decay * mean, "ratio", source, details=details, places=(run.place(norms[-1][0]),)),)


def _norm(event: Event) -> float | None:
    """The spectral norm that a record gives; of several, the mean of those that are numbers."""
    value = _metrics(event).get("sigma_max")
    if isinstance(value, dict):
        value = list(cast("dict[str, Any]", value).values())
    if not isinstance(value, list):
        return _positive(value)
    known = [norm for item in cast("list[Any]", value) if (norm := _positive(item)) is not None]
    return math.fsum(known) / len(known) if known else None


def _positive(value: object) -> float | None:
    """A finite number of at least 0, below 1e290 so that sums of them stay finite; else None."""
    number = as_number(value)
    return float(number) if number is not None and 0 <= number < 1e290 else None


def _metrics(event: Event) -> Mapping[str, Any]:
    metrics = event.payload.get("metrics")
    return cast("dict[str, Any]", metrics) if isinstance(metrics, dict) else {}


def _at(step: int | None) -> str:
    return "" if step is None else f" at step {step}"


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An info when the ratio is above the limit."""
    (item,) = measurements
    limit = policy["muon_ratio.ratio"]
    if item.value is None or float(item.value) <= limit.value:
        return []
    optimizer = item.details["optimizer"]
    muon = isinstance(optimizer, str) and "muon" in optimizer.lower()
    return [
        Finding(
            code="muon_ratio_high",
            severity=Severity.INFO,
            message=(
                f"Weight decay x spectral norm is {float(item.value):.3g}, above {limit.value:g}: "
                "decay outweighs an update of norm 1."
            ),
            evidence={**item.details, "ratio": item.value, "threshold": limit.value, "threshold_source": limit.source},
            advice="If the loss has stopped falling, try a lower weight decay.",
            confidence=0.5 if muon else 0.2,
            basis=f"{item.source}; the threshold is {limit.standing}",
            caveat="" if muon else "the bound behind it belongs to Muon, and this run does not say that it uses Muon",
            places=item.places,
        )
    ]
