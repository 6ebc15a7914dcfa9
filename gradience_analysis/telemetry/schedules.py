"""The learning rate that a run declared for each step, and how far what it logged is from that.

The formulas are those of `transformers.get_scheduler` (linear, cosine, ...), so that a declared name means what the
trainer makes of it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from gradience_analysis.model import Run, Segment, as_number, first_number
from gradience_schema import ConfigSnapshot

Schedule = Callable[[int], float]
"""Learning rate after this many steps of the scheduler."""

KEPT: Final = 5
"""Records with the largest deviation that are kept."""
_FLOOR: Final = 0.01
_WITH_TOTAL: Final = frozenset({"linear", "cosine", "polynomial", "cosine_with_restarts", "cosine_with_min_lr"})
_WITH_ARGUMENTS: Final = frozenset({"cosine_with_restarts", "cosine_with_min_lr"})
_BY_METRIC: Final = frozenset({"reduce_lr_on_plateau", "greedy"})
_LAGS: Final = 64
_LARGEST_ARGUMENT: Final = 1e9
_MOST_RECORDS: Final = 2000
LARGEST_STEP: Final = 2**53
"""Steps beyond it are no steps: a double cannot tell one from the next."""
FLOAT16: Final = frozenset({"float16", "fp16", "half", "torch.float16"})
"""Names of the type that a loss scaler is used with."""
_GUARD_ACTIONS: Final = frozenset({"skip", "rollback"})


def declared_schedule(
    name: str, peak: float, warmup: float | None, total: int | None, arguments: Mapping[str, Any] | None = None
) -> Schedule | str:
    """The schedule of that name.

    Args:
        name: As the trainer calls it: `linear`, `cosine`, `SchedulerType.COSINE`, ...
        peak: Learning rate of the optimizer.
        warmup: Steps of warm-up; below 1 that share of all steps; None when unknown.
        total: All steps of the run; None when unknown.
        arguments: Further arguments of the scheduler, such as `num_cycles`; None when they were not recorded.

    Returns:
        The schedule, or a sentence that says what is missing to know it.
    """
    kind = name.rpartition(".")[2].lower()
    if kind == "constant":
        return lambda _: peak
    if kind in _BY_METRIC:
        return f"the schedule {kind} follows a metric, not the step."
    if kind not in _FACTORS:
        return f"the schedule {kind[:40]!r} is not known to this version."
    settled = _settled_steps(warmup, total, needs_total=kind in _WITH_TOTAL)
    if isinstance(settled, str):
        return settled
    if kind in _WITH_ARGUMENTS and arguments is None:
        return f"the arguments of the schedule {kind} are not recorded. Log training.extras.lr_scheduler_kwargs."
    steps, total = settled
    after = _FACTORS[kind](peak, steps, total, arguments or {})
    return lambda step: peak * step / max(1, steps) if step < steps else peak * after(step)


def _settled_steps(warmup: float | None, total: int | None, *, needs_total: bool) -> tuple[int, int] | str:
    """Steps of warm-up and of the run; the latter is 0 where it is neither known nor needed."""
    if warmup is None or not 0 <= warmup <= LARGEST_STEP:
        return "the number of warm-up steps is not recorded. Log training.warmup_steps."
    known = total is not None and 0 < total <= LARGEST_STEP
    if not known and (needs_total or 0 < warmup < 1):
        return "the number of steps is not recorded. Log training.max_steps."
    total = total if total is not None and known else 0
    return math.ceil(total * warmup) if 0 < warmup < 1 else int(warmup), total


_Factor = Callable[[float, int, int, Mapping[str, Any]], Schedule]
"""From peak, steps of warm-up, all steps and further arguments to the factor of the peak after the warm-up."""


def _constant(peak: float, warmup: int, total: int, given: Mapping[str, Any]) -> Schedule:
    del peak, warmup, total, given
    return lambda _: 1.0


def _linear(peak: float, warmup: int, total: int, given: Mapping[str, Any]) -> Schedule:
    del peak, given
    span = max(1, total - warmup)
    return lambda step: max(0.0, (total - step) / span)


def _cosine(peak: float, warmup: int, total: int, given: Mapping[str, Any]) -> Schedule:
    span, waves = max(1, total - warmup), _argument(given, "num_cycles", 0.5)
    low = _argument(given, "min_lr_rate", _argument(given, "min_lr", 0.0) / peak)
    turns = 2.0 * math.pi * waves / span
    return lambda step: max(0.0, (0.5 + 0.5 * math.cos(turns * (step - warmup))) * (1 - low) + low)


def _restarting(peak: float, warmup: int, total: int, given: Mapping[str, Any]) -> Schedule:
    del peak
    span, cycles = max(1, total - warmup), _argument(given, "num_cycles", 1.0)

    def factor(step: int) -> float:
        progress = (step - warmup) / span
        return 0.0 if progress >= 1.0 else 0.5 + 0.5 * math.cos(math.pi * ((cycles * progress) % 1.0))

    return factor


def _polynomial(peak: float, warmup: int, total: int, given: Mapping[str, Any]) -> Schedule:
    span = max(1, total - warmup)
    power, low = _argument(given, "power", 1.0), _argument(given, "lr_end", 1e-7) / peak
    return lambda step: low if step > total else (1 - low) * (1 - (step - warmup) / span) ** power + low


def _inverse_sqrt(peak: float, warmup: int, total: int, given: Mapping[str, Any]) -> Schedule:
    del peak, total
    scale = _argument(given, "timescale", warmup or 10_000)
    return lambda step: 1.0 / math.sqrt((step + scale - warmup) / scale)


_FACTORS: Final[Mapping[str, _Factor]] = {
    "constant_with_warmup": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_min_lr": _cosine,
    "cosine_with_restarts": _restarting,
    "polynomial": _polynomial,
    "inverse_sqrt": _inverse_sqrt,
}


def _argument(given: Mapping[str, Any], name: str, default: float) -> float:
    value = as_number(given.get(name))
    return float(value) if value is not None and 0 < value < _LARGEST_ARGUMENT else default


@dataclass(frozen=True, slots=True)
class Deviation:
    """One logged learning rate beside the declared one.

    Attributes:
        share: Distance from the nearest rate that the schedule has within one step of the logged one, over the
            declared rate of that step (over 1% of the peak where that is more). 0 on the schedule.
        step: Optimizer step of the record.
        logged: What was logged.
        declared: What the schedule gives for the step before, the state a step is taken with.
    """

    share: float
    step: int
    logged: float
    declared: float

    def to_dict(self) -> dict[str, float | int]:
        """Plain JSON types."""
        return {"deviation": self.share, "step": self.step, "logged": self.logged, "declared": self.declared}


@dataclass(frozen=True, slots=True)
class SegmentRates:
    """The logged rates of one segment against its own declaration.

    Attributes:
        segment: Index of the segment.
        schedule: Name of the declared schedule; empty without one.
        records: Records compared; of more than 2000 every n-th.
        worst: Those with the largest deviations, largest first, at most five.
        from_resume: The same with the schedule counted from the resume, as a new scheduler would; empty for a
            segment that did not resume.
        reason: Why nothing was compared, and what to log; empty when something was.
    """

    segment: int
    schedule: str = ""
    records: int = 0
    worst: tuple[Deviation, ...] = ()
    from_resume: tuple[Deviation, ...] = ()
    reason: str = ""


def rates_by_segment(run: Run) -> list[SegmentRates]:
    """The learning rates of each segment against the schedule that its own run_start declares.

    In float16 the loss scaler skips steps, and the schedule waits: as many steps of lag are allowed as were counted.
    What follows the first action of a guard is left out, because a guard holds the schedule or lowers the rate.
    """
    found: list[SegmentRates] = []
    config: ConfigSnapshot | None = None
    lag, stop = 0, _first_guard_action(run)
    for segment in run.segments:
        start = next((event for event in segment.events if event.event == "run_start"), None)
        if start is not None:
            config = ConfigSnapshot.from_dict(start.payload["config"])
        rates = _points(run, segment)
        counted = _counted_overflows(segment)
        if config is None:
            found.append(SegmentRates(segment.index, reason="there is no run_start, which would declare the schedule."))
            continue
        half = (config.training.dtype or "").lower() in FLOAT16
        if half and counted is None:
            reason = (
                "with float16 the schedule waits at each step that the loss scaler skips. Log nonfinite_grad_steps."
            )
            found.append(SegmentRates(segment.index, reason=reason))
            continue
        lag += min(counted or 0, LARGEST_STEP) if half else 0
        found.append(_compared(segment, config, [pair for pair in rates if pair[0] < stop], lag))
    return found


def _compared(segment: Segment, config: ConfigSnapshot, rates: Sequence[tuple[int, float]], lag: int) -> SegmentRates:
    training = config.training
    name = training.lr_scheduler
    if not name:
        return SegmentRates(segment.index, reason="no schedule is declared. Log training.lr_scheduler.")
    peak = _peak(segment, config)
    if isinstance(peak, str):
        return SegmentRates(segment.index, name, reason=peak)
    total, warmup = _settled(segment, training.max_steps, training.warmup_steps)
    arguments = training.extras.get("lr_scheduler_kwargs")
    schedule = declared_schedule(
        name, peak, warmup, total, cast("dict[str, Any]", arguments) if isinstance(arguments, dict) else None
    )
    if isinstance(schedule, str):
        return SegmentRates(segment.index, name, reason=schedule)
    if not rates:
        return SegmentRates(segment.index, name, reason="no learning rate was logged. Log lr with train_step.")
    rates = rates[:: -(-len(rates) // _MOST_RECORDS)]
    worst = _largest(rates, schedule, peak, 0, lag)
    resumed = segment.resume_step
    anew = _largest(rates, schedule, peak, resumed, lag) if resumed else ()
    return SegmentRates(segment.index, name, len(rates), worst, anew)


def _peak(segment: Segment, config: ConfigSnapshot) -> float | str:
    """The rate that the first parameter group has at the top of the schedule."""
    groups = config.optimizer.extras.get("group_lrs")
    known = cast("list[object]", groups) if isinstance(groups, list) else []
    peak = as_number(known[0]) if known else config.optimizer.lr
    if peak is None or not math.isfinite(peak) or peak <= 0:
        return "the learning rate of the optimizer is not recorded. Log optimizer.lr."
    logged = next((event.payload["lr"] for event in segment.events if "lr" in event.payload), None)
    rates = cast("list[object]", logged) if isinstance(logged, list) else []
    if not known and any(rate != rates[0] for rate in rates):
        return "parameter groups have different rates. Log their peaks as optimizer.extras.group_lrs."
    return float(peak)


def _settled(segment: Segment, total: int | None, warmup: float | None) -> tuple[int | None, float | None]:
    """Steps and warm-up as declared, or as a record of kind `schedule` settled them before training began."""
    for event in segment.events:
        if event.event == "metrics" and event.payload["kind"] == "schedule":
            told = as_number(event.payload["metrics"].get("max_steps"))
            share = as_number(event.payload["metrics"].get("warmup_steps"))
            total = total if told is None or not 0 < told <= LARGEST_STEP else int(told)
            warmup = warmup if share is None else float(share)
        if event.event == "train_step":
            break
    return total, warmup


def _points(run: Run, segment: Segment) -> Sequence[tuple[int, float]]:
    if len(run.segments) == 1:
        return [(step, rate) for step, rate in run.series("lr") if math.isfinite(rate) and step <= LARGEST_STEP]
    points: list[tuple[int, float]] = []
    for event in segment.events:
        if event.event == "train_step" and event.step is not None and event.step <= LARGEST_STEP:
            rate = first_number(event.payload.get("lr"))
            if rate is not None and math.isfinite(rate):
                points.append((event.step, float(rate)))
    return points


def _counted_overflows(segment: Segment) -> int | None:
    for event in reversed(segment.events):
        count = as_number(event.payload.get("nonfinite_grad_steps"))
        if count is not None and math.isfinite(count):
            return int(count)
    return None


def _first_guard_action(run: Run) -> float:
    """The first step at which a guard changed the run; infinity when none did."""
    acted = [
        event for event in run.metrics.get("guard", ()) if str(event.payload["metrics"].get("action")) in _GUARD_ACTIONS
    ]
    acted += [event for event in run.alerts if event.payload["code"] in {"GUARD_ROLLBACK", "GUARD_SKIP"}]
    return min((event.step for event in acted if event.step is not None), default=math.inf)


def _largest(
    rates: Sequence[tuple[int, float]], schedule: Schedule, peak: float, origin: int, lag: int
) -> tuple[Deviation, ...]:
    """The largest deviations, of at most five records; a rate on the schedule costs one evaluation of it."""
    floor = _FLOOR * peak
    off: list[Deviation] = []
    exact = Deviation(0.0, rates[0][0], rates[0][1], schedule(max(0, rates[0][0] - origin - 1)))
    offset = -1
    for step, rate in rates:
        at = step - origin
        here = schedule(max(0, at + offset))
        if abs(here - rate) <= 1e-9 * peak:
            continue
        near = [schedule(max(0, at + shift)) for shift in (-1, 0, 1)]
        if lag:
            stride = max(1, lag // _LAGS)
            near += [schedule(max(0, at - 1 - late)) for late in range(1, lag + stride, stride)]
        low, high = min(near), max(near)
        distance = max(0.0, low - rate, rate - high)
        if distance > 0.0:
            off.append(Deviation(distance / max(near[0], floor), step, rate, near[0]))
        elif not lag:
            # Some versions log the rate after the scheduler's step: the same shift holds for the next record.
            offset = min((-1, 0, 1), key=lambda shift: abs(near[shift + 1] - rate))
    if not off:
        return (exact,)
    return tuple(heapq.nlargest(KEPT, off, key=lambda one: one.share))
