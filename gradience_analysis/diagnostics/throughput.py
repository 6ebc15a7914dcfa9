"""Throughput: how long a step takes, and whether steps become slower.

The time of a step is the `step_s` of `metrics` of kind `throughput`, which leaves evaluations and saving out. Without
those, or with too few of them, it is the time between two `train_step` records over the steps between them; an
interval in which an evaluation was written is left out, and a save, which leaves no record, falls to the median. Logs
without times give nothing. Of a resumed run the last segment with enough steps counts: another one may have run on
another machine.

Two medians are compared: over the first 50 steps after the warm-up (the first tenth of the steps, between 5 and 100),
and over the last 50; each window holds at least five logs, so that it is longer where logs are rare. Where
`tokens_per_s` is logged, its fall has to show the same: batches that grow longer are not slower.

More than 1.5 times as long is a finding (G09) once it has cost a minute in all, against the pace after the warm-up:
of steps that take milliseconds and of runs that take seconds, whatever else the machine does decides. `throughput`
itself is steps per second at the median. Data sorted by length without `tokens_per_s` looks the same as a machine
that slows down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gradience_analysis.model import Event, Finding, Measurement, Place, Run, Segment, as_number
from gradience_analysis.policy import Policy
from gradience_analysis.series.robust import median
from gradience_schema import Severity

CODES: Mapping[str, str] = {"step_time_growing": "Steps take much longer at the end than after the warm-up."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "throughput"
_WINDOW_STEPS = 50
_WINDOW_LOGS = 5
_WARM_UP_SHARE = 0.1
_WARM_UP_STEPS = (5, 100)


class _Pace(NamedTuple):
    """One log: the steps it covers (after `since`, up to `step`), seconds a step, and tokens a second when known."""

    since: int
    step: int
    seconds: float
    tokens: float | None
    event: Event


def measure(run: Run) -> tuple[Measurement, ...]:
    """Optimizer steps per second, with the median time of a step at the start and at the end."""
    reason = "no step has a time. Log metrics of kind throughput with step_s, or ts in Unix seconds."
    for segment in reversed(run.segments):
        for source, paces_of in _SOURCES.items():
            paces = paces_of(segment)
            windows = _windows(paces)
            if windows is not None:
                return (_measurement(paces, source, windows, segment),)
            if paces:
                reason = (
                    f"fewer than {2 * _WINDOW_STEPS} steps after the warm-up, or fewer than {2 * _WINDOW_LOGS} logs."
                )
    return (Measurement(NAME, None, "steps/s", reason=reason),)


def _logged(segment: Segment) -> list[_Pace]:
    found: list[_Pace] = []
    since: int | None = None  # the first log belongs to the warm-up, and what it covers is not written
    for event in segment.events:
        if event.event != "metrics" or event.step is None or event.payload["kind"] != "throughput":
            continue
        values: Mapping[str, Any] = event.payload["metrics"]
        seconds, tokens = _positive(values.get("step_s")), _positive(values.get("tokens_per_s"))
        if seconds is not None and since is not None and event.step > since:
            found.append(_Pace(since, event.step, seconds, tokens, event))
        since = event.step if since is None else max(since, event.step)
    return found


def _positive(value: object) -> float | None:
    number = as_number(value)
    return float(number) if number is not None and 0 < number < math.inf else None


def _from_stamps(segment: Segment) -> list[_Pace]:
    """Times between train_step records with nothing but measurements of the machine between them."""
    if not segment.timed:
        return []
    found: list[_Pace] = []
    last: Event | None = None
    for event in segment.events:
        if event.event == "train_step" and event.step is not None:
            if last is not None and last.step is not None and event.step > last.step and event.ts > last.ts:
                seconds = (event.ts - last.ts) / (event.step - last.step)
                found.append(_Pace(last.step, event.step, seconds, None, event))
            last = event
        elif event.event != "metrics":
            last = None
    return found


_SOURCES: Mapping[str, Callable[[Segment], list[_Pace]]] = {
    "step_s of kind throughput": _logged,
    "ts of train_step records": _from_stamps,
}
"""What step times are taken from, best first."""


def _windows(paces: Sequence[_Pace]) -> tuple[Sequence[_Pace], Sequence[_Pace]] | None:
    """The logs of the first steps after the warm-up, and of the last; None when they would meet."""
    if not paces:
        return None
    begin, end = paces[0].since, paces[-1].step
    warm = min(max(_WARM_UP_SHARE * (end - begin), _WARM_UP_STEPS[0]), _WARM_UP_STEPS[1])
    settled = [pace for pace in paces if pace.since >= begin + warm]
    if len(settled) < 2 * _WINDOW_LOGS:
        return None
    first = settled[: max(_WINDOW_LOGS, sum(pace.step <= settled[0].since + _WINDOW_STEPS for pace in settled))]
    last = settled[-max(_WINDOW_LOGS, sum(pace.since >= end - _WINDOW_STEPS for pace in settled)) :]
    apart = first[-1].step <= last[0].since
    long = min(window[-1].step - window[0].since for window in (first, last)) >= _WINDOW_STEPS
    return (first, last) if apart and long else None


def _measurement(
    paces: Sequence[_Pace], source: str, windows: tuple[Sequence[_Pace], Sequence[_Pace]], segment: Segment
) -> Measurement:
    first, last = windows
    seconds = [median([pace.seconds for pace in window]) for window in windows]
    tokens = [median([pace.tokens for pace in window if pace.tokens is not None]) for window in windows]
    known = not any(map(math.isnan, tokens))
    details: dict[str, Any] = {
        "first": {"steps": [first[0].since + 1, first[-1].step], "step_s": seconds[0]},
        "last": {"steps": [last[0].since + 1, last[-1].step], "step_s": seconds[1]},
        "step_time_ratio": seconds[1] / seconds[0],
        "token_time_ratio": tokens[0] / tokens[1] if known else None,
        "time_lost_s": _lost([pace for pace in paces if pace.since >= first[0].since], seconds[0]),
    }
    places: tuple[Place, ...] = (segment.place(last[0].event), segment.place(last[-1].event))
    overall = median([pace.seconds for pace in paces])
    return Measurement(NAME, 1 / overall, "steps/s", source, details=details, places=places)


def _lost(paces: Sequence[_Pace], usual: float) -> float:
    """Seconds that the steps took beyond the usual; never negative."""
    return max(0.0, math.fsum((pace.seconds - usual) * (pace.step - pace.since) for pace in paces))


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning when a step, and a token where that is known, takes much longer at the end."""
    (item,) = measurements
    if item.value is None:
        return []
    limit = policy["throughput.step_time_ratio"]
    before, after = (item.details[name]["step_s"] for name in ("first", "last"))
    ratio, tokens = item.details["step_time_ratio"], item.details["token_time_ratio"]
    slower = ratio > limit.value and (tokens is None or tokens > limit.value)
    lost = item.details["time_lost_s"]
    if not slower or lost < policy.limit("throughput.time_lost"):
        return []
    steps = "steps {} to {}".format(*item.details["last"]["steps"])
    return [
        Finding(
            code="step_time_growing",
            rule="G09",
            severity=Severity.WARNING,
            message=(
                f"A step takes {after:.3g} s at the end ({steps}), {ratio:.2f} times the {before:.3g} s after the "
                f"warm-up, which has cost {lost / 60:.3g} min so far."
            ),
            evidence={**item.details, "limit": limit.value, "source": item.source},
            advice="Look at the temperature of the device, at the disk the data come from, at swap, and at other jobs.",
            confidence=0.7 if tokens is not None else 0.6,
            basis=f"medians of {_WINDOW_STEPS} steps or more; the limit is {limit.standing}",
            caveat="" if tokens is not None else "longer batches take longer too; log tokens_per_s to tell them apart",
            places=item.places,
        )
    ]
