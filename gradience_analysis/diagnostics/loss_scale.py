"""Loss scale: whether the scale of float16 training has collapsed, or its steps overflow again and again.

- `loss_scale`: the lowest value of the `train_step` field of that name (or `grad_scale`, `amp_scale`, `scale`) since
  it was last above 1. At 1 or below it is a finding (G06): no scale is left to halve. A scale that was never above 1
  is switched off or fixed, as under bfloat16, and is no collapse.
- `overflow_steps`, per 100 steps: the highest rate at which a counter of skipped steps rose over at least 100 steps
  (`overflow_steps`, `skipped_steps`, `overflows`, `num_overflows`; under float16 without one of these the callback's
  `nonfinite_grad_steps`). 3 or more is a finding (G06). The first 100 steps of a process are left out: there the
  scale comes down from where it starts, which takes some overflows and is how it is meant to work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gradience_analysis.model import Event, Finding, Measurement, Place, Run, Segment, as_number
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {"loss_scale_collapsed": "The fp16 loss scale has collapsed, or many steps overflow."}
COVERS: Mapping[str, frozenset[str]] = {}
_SCALES = ("loss_scale", "grad_scale", "amp_scale", "scale")
_COUNTERS = ("overflow_steps", "skipped_steps", "overflows", "num_overflows")
_OWN_COUNTER = "nonfinite_grad_steps"
_HALF = frozenset({"float16", "fp16", "half", "torch.float16"})
_SETTLING_STEPS = 100
_WINDOW_STEPS = 100
_OFF = 1.0
_Point = tuple[int, float, Segment, Event]


def measure(run: Run) -> tuple[Measurement, ...]:
    """The lowest scale below its start, and the highest rate of overflows."""
    return _scale(run), _overflows(run)


def _points(segment: Segment, field: str) -> list[_Point]:
    found: list[_Point] = []
    for event in segment.events:
        if event.event == "train_step" and event.step is not None and field in event.payload:
            number = as_number(event.payload[field])
            if number is not None and math.isfinite(number):
                found.append((event.step, float(number), segment, event))
    return found


def _field(run: Run, names: Sequence[str]) -> str | None:
    return next((name for name in names if run.series(name)), None)


def _scale(run: Run) -> Measurement:
    name = _field(run, _SCALES)
    points = [] if name is None else [point for segment in run.segments for point in _points(segment, name)]
    if not points:
        reason = "no train_step carries loss_scale. Log it when training in float16."
        return Measurement("loss_scale", None, "factor", reason=reason)
    start = next((place for place, point in enumerate(points) if point[1] > _OFF), None)
    lowest = min(points[start:], key=lambda point: point[1])
    details = {"field": name, "step": lowest[0], "was_above_1": start is not None, "last": points[-1][1]}
    source = f"{name} of train_step records"
    return Measurement("loss_scale", lowest[1], "factor", source, details=details, places=(_place(lowest),))


def _place(point: _Point) -> Place:
    return point[2].place(point[3])


def _overflows(run: Run) -> Measurement:
    unit, name = "steps per 100 steps", _field(run, _COUNTERS)
    dtype = None if run.config is None else run.config.training.dtype
    if name is None and dtype in _HALF:
        name = _field(run, (_OWN_COUNTER,))
    if name is None:
        reason = "no train_step counts overflows. Log overflow_steps when training in float16."
        return Measurement("overflow_steps", None, unit, reason=reason)
    rates = [rate for segment in run.segments if (rate := _highest_rate(_points(segment, name))) is not None]
    if not rates:
        reason = f"{name} was not logged over {_WINDOW_STEPS} steps after the first {_SETTLING_STEPS} of a process."
        return Measurement("overflow_steps", None, unit, reason=reason)
    highest, begin, end = max(rates, key=lambda item: item[0])
    details = {"field": name, "steps": [begin[0], end[0]], "count": end[1] - begin[1]}
    places = (_place(begin), _place(end))
    return Measurement("overflow_steps", highest, unit, f"{name}, which counts up", details=details, places=places)


def _highest_rate(points: Sequence[_Point]) -> tuple[float, _Point, _Point] | None:
    """The highest rise of a counter per 100 steps over at least 100 steps, after the start of the process."""
    settled = [point for point in points if point[0] >= points[0][0] + _SETTLING_STEPS]
    best: tuple[float, _Point, _Point] | None = None
    begin = 0
    for end in settled:
        # The latest beginning that leaves a whole window: any earlier one holds more steps.
        while begin + 1 < len(settled) and end[0] - settled[begin + 1][0] >= _WINDOW_STEPS:
            begin += 1
        start = settled[begin]
        if end[0] - start[0] >= _WINDOW_STEPS:
            rate = 100 * (end[1] - start[1]) / (end[0] - start[0])
            if best is None or rate > best[0]:
                best = (rate, start, end)
    return best


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """One warning for a scale that collapsed, for overflows, or for both."""
    scale, overflows = measurements
    low, often = policy["loss_scale.lowest"], policy["loss_scale.overflows"]
    collapsed = scale.value is not None and scale.details["was_above_1"] and float(scale.value) <= low.value
    frequent = overflows.value is not None and float(overflows.value) >= often.value
    if not collapsed and not frequent:
        return []
    parts: list[str] = []
    if collapsed:
        parts.append(f"the loss scale fell to {float(scale.value or 0):g} at step {scale.details['step']}")
    if frequent:
        steps = "steps {} to {}".format(*overflows.details["steps"])
        parts.append(f"{float(overflows.value or 0):.3g} of 100 steps overflow ({steps})")
    text = " and ".join(parts)
    return [
        Finding(
            code="loss_scale_collapsed",
            rule="G06",
            severity=Severity.WARNING,
            message=f"{text[0].upper()}{text[1:]}.",
            evidence={"loss_scale": scale.value, "overflows_per_100_steps": overflows.value, **overflows.details},
            advice="Try bfloat16 where the device has it, else a lower learning rate or gradient clipping.",
            confidence=0.9 if collapsed else 0.7,
            basis=f"the trainer's own figures; the limits are {low.standing}",
            places=(*(scale.places if collapsed else ()), *(overflows.places if frequent else ())),
        )
    ]
