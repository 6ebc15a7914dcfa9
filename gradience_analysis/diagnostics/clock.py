"""Clock: whether the time stamps of the records can be those of one clock.

Between two records that follow each other in a segment `ts` may stand still or go on. What is measured, in seconds,
is how far it goes back at most (`clock_back`) and how far ahead at most (`clock_ahead`); after `run_end` it may be
any time until an evaluation or an audit. Going back by more than a second, or ahead by more than a day within one
segment, is a finding (P08). Speed and duration then mean nothing; the order of the records is that of `seq`. A
machine that slept over a weekend shows the same jump ahead. Logs without times are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from gradience_analysis.model import Finding, Measurement, Run, Segment
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {"clock_jump": "The time stamps go back, or jump far ahead."}
COVERS: Mapping[str, frozenset[str]] = {}
_KEPT = 5
_Jump = tuple[float, int, int]
"""Seconds (negative when back), number of the segment, and place of the record behind it."""


def measure(run: Run) -> tuple[Measurement, ...]:
    """The largest step back and the largest step ahead between two records of one segment, of every rank."""
    segments = (*run.segments, *run.other_ranks)
    timed = [(number, segment) for number, segment in enumerate(segments) if segment.timed]
    jumps = [jump for number, segment in timed for jump in _extremes(segment, number)]
    if not jumps:
        reason = (
            "no segment has two records." if timed else "the log has no times. Log ts, the Unix seconds of each record."
        )
        return tuple(Measurement(name, None, "s", reason=reason) for name in ("clock_back", "clock_ahead"))
    back = sorted(jump for jump in jumps if jump[0] < 0)[:_KEPT]
    ahead = sorted((jump for jump in jumps if jump[0] >= 0), reverse=True)[:_KEPT]
    return _measurement("clock_back", back, segments), _measurement("clock_ahead", ahead, segments)


def _extremes(segment: Segment, number: int) -> Iterable[_Jump]:
    """The largest jumps of a segment up to its run_end, both ways."""
    stamps: list[float] = []
    for event in segment.events:
        stamps.append(event.ts)
        if event.event == "run_end":
            break
    steps = [later - earlier for earlier, later in pairwise(stamps)]
    if not steps:
        return []
    # One pass says whether there is anything to pick out, which in nearly every file there is not.
    low, high = min(steps), max(steps)
    if low >= 0:
        return [(high, number, steps.index(high) + 1)]
    ranked = sorted((step, number, place) for place, step in enumerate(steps, 1))
    return [*ranked[:_KEPT], *ranked[-_KEPT:]] if len(ranked) > 2 * _KEPT else ranked


def _measurement(name: str, jumps: Sequence[_Jump], segments: Sequence[Segment]) -> Measurement:
    places = tuple(segments[number].place(segments[number].events[place]) for _, number, place in jumps)
    sizes = [abs(seconds) for seconds, _, _ in jumps]
    source = "ts of records that follow each other in a segment"
    return Measurement(name, max(sizes, default=0.0), "s", source, details={"largest": sizes}, places=places)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """One warning for stamps that go back, or jump ahead, by more than the policy allows."""
    limits = (policy["clock.back"], policy["clock.ahead"])
    over = [
        [(size, place) for size, place in zip(item.details["largest"], item.places, strict=True) if size > limit.value]
        for item, limit in zip(measurements, limits, strict=True)
        if item.value is not None
    ]
    found = [pair for several in over for pair in several]
    if not found:
        return []
    back, ahead = ([size for size, _ in several] for several in over)
    parts = [f"go back by {_span(max(back))}"] if back else []
    parts += [f"jump ahead by {_span(max(ahead))}"] if ahead else []
    return [
        Finding(
            code="clock_jump",
            rule="P08",
            severity=Severity.WARNING,
            message=f"The time stamps {' and '.join(parts)} between two records of a segment.",
            evidence={"back_s": back, "ahead_s": ahead, "limits_s": [limit.value for limit in limits]},
            advice="Look at the clock of the machine; take no speed and no duration from this run.",
            confidence=0.9 if back else 0.6,
            basis=f"the stamps stand in the records; the limits are {limits[0].standing}",
            caveat="" if back else "a machine that was suspended shows the same",
            places=tuple(place for _, place in found[:_KEPT]),
        )
    ]


def _span(seconds: float) -> str:
    if seconds < 7200:
        return f"{seconds:.3g} s"
    return f"{seconds / 3600:.3g} h" if seconds < 48 * 3600 else f"{seconds / 86400:.3g} days"
