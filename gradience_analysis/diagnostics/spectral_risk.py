"""Spectral risk: whether the condition number of the watched weights is drifting or jumping.

Measured from kappa (largest over smallest singular value) as `metrics` records of kind `spectral` log it, or from
`spectral_kappa` of `train_step` records. Over the last 20 readings, with k the mean kappa of these:

- slope = Theil-Sen slope of kappa against the step, over k: the fraction of kappa gained per step. A falling kappa
  has a slope below 0 and is no risk.
- volatility = 1.4826 x median of |c - slope|, where c = (kappa[i] - kappa[i-1]) / (step[i] - step[i-1]) / k: how far
  the changes from reading to reading stray from the trend, in the same unit. One jump alone does not move it.

Levels of the slope: STABLE, LEARNING, WARNING, DANGER; a volatility above its limit is INSTABILITY whatever the slope.
WARNING, DANGER and INSTABILITY are infos, whatever they are called: see below. STABLE and LEARNING say nothing. A
`risk_level` that the run recorded itself is shown beside ours and decides nothing.

**Where it may be wrong.** Often. The limits came with the idea. Of 30 sound trainings of small models
(docs/spectral.md) 9 reached WARNING or above when kappa was read every 50 steps, and all 30 at 10 steps or fewer; of 40
faults that raised the loss none was led at 50 steps. Kappa moves most in the first steps of a sound run, noise weighs
more the closer the readings lie, and a nearly singular matrix has a kappa of any size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

from gradience_analysis.model import Event, Finding, Measurement, Place, Run, as_number
from gradience_analysis.policy import Policy
from gradience_analysis.series.robust import MAD_TO_SIGMA, mad, slope
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "spectral_risk": "The condition number of the watched weights rises fast, or jumps from reading to reading.",
}
COVERS: Mapping[str, frozenset[str]] = {}
WINDOW = 20
FEWEST = 8
_LARGEST = 1e300  # sums and differences of such numbers stay within a double
_LEVELS = (
    ("spectral_risk.danger", "DANGER"),
    ("spectral_risk.warning", "WARNING"),
    ("spectral_risk.learning", "LEARNING"),
)
_WORDS = {
    "WARNING": "rises by {slope:.2%} a step",
    "DANGER": "rises fast, by {slope:.2%} a step",
    "INSTABILITY": "jumps from reading to reading (volatility {volatility:.2%} a step)",
}


def measure(run: Run) -> tuple[Measurement, ...]:
    """Slope and volatility of kappa over its last readings, relative to their mean."""
    readings, ignored, source, last = _readings(run)
    names = (("spectral_kappa_slope", "fraction per step"), ("spectral_kappa_volatility", "fraction per step"))
    window = readings[-WINDOW:]
    if len(window) < FEWEST:
        reason = f"fewer than {FEWEST} readings of kappa ({len(readings)}). Log kappa as metrics of kind spectral."
        return tuple(Measurement(name, None, unit, reason=reason) for name, unit in names)
    mean = math.fsum(value for _, value in window) / len(window)
    changes = [(y2 - y1) / (x2 - x1) / mean for (x1, y1), (x2, y2) in pairwise(window)]
    details: dict[str, Any] = {
        "readings": len(readings),
        "ignored": ignored,
        "steps": [int(window[0][0]), int(window[-1][0])],
        "kappa_mean": mean,
        "kappa_last": window[-1][1],
        "recorded_risk_level": _recorded_level(run),
    }
    place = Place(int(window[-1][0])) if last is None else run.place(last)
    rise = slope(window) / mean
    # Around the trend, not around the median of the changes: of changes that alternate, that is one of the two.
    values = (rise, MAD_TO_SIGMA * mad(changes, rise))
    return tuple(
        Measurement(name, value, unit, source, details=details, places=(place,))
        for (name, unit), value in zip(names, values, strict=True)
    )


def _readings(run: Run) -> tuple[list[tuple[float, float]], int, str, Event | None]:
    """Kappa by step, ascending; how many entries were no positive finite number; where they come from; the last one."""
    events = run.metrics.get("spectral", ())
    found: list[tuple[float, float]] = []
    ignored = 0
    last: Event | None = None
    for event in events:
        metrics = _metrics(event)
        if "kappa" not in metrics:
            continue
        if _add(found, event.step, as_number(metrics["kappa"])):
            last = event
        else:
            ignored += 1
    if found or ignored:
        return found, ignored, "kappa of metrics records of kind spectral", last
    for step, value in run.series("spectral_kappa"):
        ignored += not _add(found, step, value)
    return found, ignored, "spectral_kappa of train_step records", None


def _add(found: list[tuple[float, float]], step: int | None, kappa: float | None) -> bool:
    if step is None or kappa is None or not 0 < kappa < _LARGEST or step > _LARGEST:
        return False
    if found and step <= found[-1][0]:
        return False
    found.append((float(step), float(kappa)))
    return True


def _metrics(event: Event) -> Mapping[str, Any]:
    metrics = event.payload.get("metrics")
    return cast("dict[str, Any]", metrics) if isinstance(metrics, dict) else {}


def _recorded_level(run: Run) -> str | None:
    """What the run itself recorded last; None when it is no text."""
    for event in reversed(run.metrics.get("spectral", ())):
        level = _metrics(event).get("risk_level")
        if isinstance(level, str):
            return level[:40]
    return None


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An info for WARNING, DANGER and INSTABILITY, nothing below."""
    rise, volatility = measurements
    level = risk_level(rise, volatility, policy)
    if level not in _WORDS:
        return []
    details = rise.details
    name = "spectral_risk.volatility" if level == "INSTABILITY" else f"spectral_risk.{level.lower()}"
    limit = policy[name]
    numbers = {"slope": float(rise.value or 0), "volatility": float(volatility.value or 0)}
    first, last = details["steps"]
    said = details["recorded_risk_level"]
    caveats = ["the limits are not calibrated: many sound runs pass them too, most of all in their first steps"]
    if said is not None and said.upper() != level:
        caveats.insert(0, f"the run itself recorded {said!a}")
    return [
        Finding(
            code="spectral_risk",
            severity=Severity.INFO,
            message=f"Kappa {_WORDS[level].format(**numbers)} over steps {first} to {last} (level {level}).",
            evidence={"level": level, **numbers, **details, "threshold": limit.value, "threshold_source": limit.source},
            advice=(
                "Look at the loss and the gradient norm of the same steps; if they move too, try a lower learning rate."
            ),
            confidence=0.1,
            basis=f"{rise.source}; the threshold is {limit.standing}",
            caveat="; ".join(caveats),
            places=rise.places,
        )
    ]


def risk_level(rise: Measurement, volatility: Measurement, policy: Policy) -> str | None:
    """STABLE, LEARNING, WARNING, DANGER or INSTABILITY; None when kappa was not measured."""
    if rise.value is None or volatility.value is None:
        return None
    if float(volatility.value) > policy.limit("spectral_risk.volatility"):
        return "INSTABILITY"
    value = float(rise.value)
    return next((level for name, level in _LEVELS if value >= policy.limit(name)), "STABLE")
