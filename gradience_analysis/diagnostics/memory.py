"""Memory: whether it nears what there is, grows from step to step, or is held without being used.

From `metrics` of kind `memory`, process by process (MiB, as the callback writes them):

- `memory_peak_share` = `peak_mb` / `total_mb` of the device. More than 0.95 of it in three logs is a finding (G03). A
  peak never falls, so three logs say that the run went on with so little room; the next longer batch may not fit.
- `memory_growth`, per 100 steps: the Theil-Sen slope over the median level, of `allocated_mb`, and of `rss_mb` on the
  host. The first fifth of a process is left out, for what is loaded and cached at the start, and the slope of the
  later half has to show it too: the smaller of both counts. More than 0.01 over at least 300 steps is a finding
  (G04). Shorter runs, and those with fewer than ten logs, are too noisy to say it of.
- `memory_unused_share` = (`reserved_mb` - `peak_mb`) / `total_mb`. More than 0.30 in three logs is a finding (G08).
  What the allocator reserves covers the peak within a step and not what is allocated between two steps, when
  activations and gradients are gone: held against `allocated_mb`, nearly every run on an accelerator would look
  fragmented. Only where no peak is logged is that done, and the caveat says so.

A run on the CPU has the resident set alone, and only its growth is measured; against the host's limit it is held
under *host memory*. A slope may be meant: a replay buffer, or a cache that fills for as long as the run lasts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from gradience_analysis.model import Finding, Measurement, Place, Run, as_number
from gradience_analysis.policy import Policy
from gradience_analysis.series.robust import median, slope
from gradience_analysis.telemetry.readings import Reading, readings
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "memory_near_limit": "The peak memory comes close to what the device has.",
    "memory_growing": "The allocated memory grows steadily.",
    "memory_fragmented": "Much of the reserved memory is not in use.",
}
COVERS: Mapping[str, frozenset[str]] = {}
_KEPT = 20
_PLACES = 5
_BINS = 40
_MIN_READINGS = 10
_START_SHARE = 0.2


def measure(run: Run) -> tuple[Measurement, ...]:
    """The three shares and slopes, each with the logs in which it was highest."""
    processes = readings(run, "memory")
    return (
        _share("memory_peak_share", processes, _peak, "peak_mb / total_mb"),
        _growth("memory_growth", processes, "allocated_mb"),
        _growth("host_memory_growth", processes, "rss_mb"),
        _share("memory_unused_share", processes, _unused, "(reserved_mb - peak_mb) / total_mb"),
    )


def _peak(values: Mapping[str, object]) -> float | None:
    peak, total = _size(values, "peak_mb"), _size(values, "total_mb")
    return peak / total if peak is not None and total else None


def _unused(values: Mapping[str, object]) -> float | None:
    reserved, total = _size(values, "reserved_mb"), _size(values, "total_mb")
    used = _size(values, "peak_mb")
    if used is None:
        used = _size(values, "allocated_mb")
    return max(0.0, reserved - used) / total if reserved is not None and used is not None and total else None


def _size(values: Mapping[str, object], name: str) -> float | None:
    number = as_number(values.get(name))
    return float(number) if number is not None and math.isfinite(number) and number >= 0 else None


def _share(
    name: str,
    processes: Sequence[Sequence[Reading]],
    share_of: Callable[[Mapping[str, object]], float | None],
    formula: str,
) -> Measurement:
    found = [(share, reading) for reading in chain(*processes) if (share := share_of(reading.values)) is not None]
    if not found:
        reason = f"no log of kind memory has what {formula} takes, which the callback logs on a device."
        return Measurement(name, None, "fraction", reason=reason)
    highest = sorted(found, key=lambda pair: -pair[0])[:_KEPT]
    details = {
        "logs": len(found),
        "highest": [share for share, _ in highest],
        "has_peak": "peak_mb" in highest[0][1].values,
        "total_mb": highest[0][1].values.get("total_mb"),
    }
    places = tuple(reading.place for _, reading in highest)
    return Measurement(name, highest[0][0], "fraction", f"{formula} of kind memory", details=details, places=places)


def _growth(name: str, processes: Sequence[Sequence[Reading]], key: str) -> Measurement:
    """The growth of the process that trained the most steps."""
    unit, longest, where = "fraction per 100 steps", -1.0, list[tuple[float, float, Place]]()
    for process in processes:
        points = [
            (float(reading.step), size, reading.place)
            for reading in process
            if reading.step is not None and (size := _size(reading.values, key)) is not None
        ]
        if points and points[-1][0] - points[0][0] > longest:
            longest, where = points[-1][0] - points[0][0], points
    settled = [point for point in where if point[0] >= where[0][0] + _START_SHARE * longest]
    level = median([size for _, size, _ in settled])
    if len(settled) < _MIN_READINGS or not level > 0:
        return Measurement(name, None, unit, reason=f"fewer than {_MIN_READINGS} logs of {key} after the start.")
    pairs = [(step, size) for step, size, _ in settled]
    whole, later = (slope(_binned(part)) for part in (pairs, pairs[len(pairs) // 2 :]))
    if math.isnan(whole) or math.isnan(later):
        return Measurement(name, None, unit, reason=f"the logs of {key} are all of one step.")
    details = {
        "quantity": key,
        "steps": settled[-1][0] - settled[0][0],
        "from_mb": settled[0][1],
        "to_mb": settled[-1][1],
        "whole": 100 * whole / level,
        "later_half": 100 * later / level,
    }
    source = f"slope of {key} over its median, of the whole process after its start and of the later half"
    places = (settled[0][2], settled[-1][2])
    return Measurement(name, 100 * min(whole, later) / level, unit, source, details=details, places=places)


def _binned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most 40 points: the medians of stretches, which keep the slope and cost little."""
    size = math.ceil(len(points) / _BINS)
    stretches = [points[place : place + size] for place in range(0, len(points), size)]
    return [(median([x for x, _ in part]), median([y for _, y in part])) for part in stretches]


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning for each of the three that is beyond its limit."""
    peak, device, host, unused = measurements
    found = [_near_limit(peak, policy), _growing((device, host), policy), _fragmented(unused, policy)]
    return [finding for finding in found if finding is not None]


def _over(item: Measurement, limit: float, logs: float) -> int:
    """In how many of the highest logs it is over the limit; 0 when those are fewer than it takes."""
    if item.value is None:
        return 0
    count = sum(share > limit for share in item.details["highest"])
    return count if count >= min(logs, _KEPT) else 0


def _near_limit(item: Measurement, policy: Policy) -> Finding | None:
    limit = policy["memory.near_limit_share"]
    count = _over(item, limit.value, policy.limit("memory.near_limit_logs"))
    if not count:
        return None
    return Finding(
        code="memory_near_limit",
        rule="G03",
        severity=Severity.WARNING,
        message=f"The peak memory is {float(item.value or 0):.1%} of the device's, above {limit.value:.0%}.",
        evidence={"peak_share": item.value, "total_mb": item.details["total_mb"], "limit": limit.value},
        advice="Try a smaller batch with more accumulation before a longer batch ends the run.",
        confidence=0.8,
        basis=f"the allocator's own figures; the limit is {limit.standing}",
        caveat="a run whose batches are all of one size may stay there to its end",
        places=item.places[: min(count, _PLACES)],
    )


def _growing(items: Sequence[Measurement], policy: Policy) -> Finding | None:
    limit, span = policy["memory.growth"], policy.limit("memory.growth_steps")
    over = [item for item in items if item.value is not None and float(item.value) > limit.value]
    item = next((item for item in over if item.details["steps"] >= span), None)
    if item is None:
        return None
    details = item.details
    whose = "The process's memory" if details["quantity"] == "rss_mb" else "The allocated memory"
    sizes = f"{details['from_mb']:,.0f} to {details['to_mb']:,.0f} MiB over {details['steps']:,.0f} steps"
    return Finding(
        code="memory_growing",
        rule="G04",
        severity=Severity.WARNING,
        message=f"{whose} grows by {float(item.value or 0):.2%} per 100 steps, from {sizes}.",
        evidence={**details, "limit": limit.value},
        advice="Look for what is kept from step to step: losses that were not detached, lists of outputs, open files.",
        confidence=0.7,
        basis=f"the slope of the whole run and of its later half; the limit is {limit.standing}",
        caveat="a cache or a buffer that is meant to fill grows too",
        places=item.places,
    )


def _fragmented(item: Measurement, policy: Policy) -> Finding | None:
    limit = policy["memory.unused_share"]
    count = _over(item, limit.value, policy.limit("memory.unused_logs"))
    if not count:
        return None
    has_peak = item.details["has_peak"]
    return Finding(
        code="memory_fragmented",
        rule="G08",
        severity=Severity.WARNING,
        message=f"{float(item.value or 0):.1%} of the device's memory is reserved and unused, above {limit.value:.0%}.",
        evidence={"unused_share": item.value, "total_mb": item.details["total_mb"], "limit": limit.value},
        advice="Try PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, or batches of fewer different lengths.",
        confidence=0.7 if has_peak else 0.4,
        basis=f"the allocator's own figures; the limit is {limit.standing}",
        caveat="" if has_peak else "no peak was logged, and between two steps the activations are gone",
        places=item.places[: min(count, _PLACES)],
    )
