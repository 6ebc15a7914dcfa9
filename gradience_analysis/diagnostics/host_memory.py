"""Host memory: whether the process comes close to the limit of its host or container, or a worker of it died.

`host_memory_share` is `rss_mb` over the smallest of `rss_limit_mb` (the limit of the container) and `host_total_mb`
in the same `metrics` record of kind `memory`; more than 0.90 once is a finding (P10), since the system kills without
a warning. `dead_workers` counts the reasons of run_end and the alerts that tell of a data-loader or pool worker that
was killed or went away, or of shared memory that ran out; any is a finding.

The resident set leaves out children, which have memory of their own, and holds pages that they share, so that the
limit may be nearer or farther than it looks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain

from gradience_analysis.model import Finding, Measurement, Run, as_number, plural
from gradience_analysis.policy import Policy
from gradience_analysis.telemetry.readings import complaints, readings
from gradience_schema import Severity

CODES: Mapping[str, str] = {"host_memory_high": "The host's memory comes close to its limit, or a worker died."}
COVERS: Mapping[str, frozenset[str]] = {}
_LIMITS = ("rss_limit_mb", "host_total_mb")
_WORKER = re.compile(
    r"(data_?loader|worker|pool)\b.{0,120}\b(killed by signal|exited unexpectedly|died|was killed|terminated abruptly)"
    r"|out of shared memory|insufficient shared memory",
    re.IGNORECASE | re.DOTALL,
)
_PLACES = 5


def measure(run: Run) -> tuple[Measurement, ...]:
    """The largest share of the host's memory, and the number of workers that were said to have died."""
    dead = [item for item in complaints(run) if _WORKER.search(item.text)]
    places = tuple(item.place for item in dead[:_PLACES])
    return (
        _share(run),
        Measurement("dead_workers", len(dead), "texts", "run_end.reason and alerts", places=places),
    )


def _share(run: Run) -> Measurement:
    found = [
        (rss / min(limits), rss, min(limits), reading.place)
        for reading in chain(*readings(run, "memory"))
        if (rss := as_number(reading.values.get("rss_mb"))) is not None
        and (limits := [size for name in _LIMITS if (size := as_number(reading.values.get(name))) and size > 0])
    ]
    if not found:
        reason = "no limit of the host was logged. Log rss_limit_mb or host_total_mb beside rss_mb in kind memory."
        return Measurement("host_memory_share", None, "fraction", reason=reason)
    share, rss, limit, place = max(found, key=lambda item: item[0])
    details = {"rss_mb": rss, "limit_mb": limit}
    source = "rss_mb / the smallest limit of kind memory"
    return Measurement("host_memory_share", share, "fraction", source, details=details, places=(place,))


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """One warning for memory near its limit, dead workers, or both."""
    share, dead = measurements
    limit = policy["host_memory.share"]
    high = isinstance(share.value, float) and share.value > limit.value
    if not high and not dead.value:
        return []
    parts = [f"The process takes {float(share.value or 0):.1%} of the host's memory"] if high else []
    count = plural(int(dead.value or 0), "record")
    parts += [f"{count} {'tells' if dead.value == 1 else 'tell'} of a dead worker"] if dead.value else []
    return [
        Finding(
            code="host_memory_high",
            rule="P10",
            severity=Severity.WARNING,
            message=f"{' and '.join(parts)}.",
            evidence={"share": share.value, **share.details, "dead_workers": dead.value, "limit": limit.value},
            advice="Try fewer data-loader workers, less prefetching, data that is read in pieces, or more memory.",
            confidence=0.8 if high else 0.6,
            basis=f"the resident set against the limit, which is {limit.standing}" if high else "the run says so",
            caveat="" if high else "a worker may die of an error in its own code",
            places=(*(share.places if high else ()), *dead.places),
        )
    ]
