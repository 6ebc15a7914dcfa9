"""Learning rate: whether what was logged is what the run declared, and whether it was 0 while training went on.

**Compared.** The declared schedule is rebuilt from `training.lr_scheduler`, `warmup_steps` and `max_steps` and
`optimizer.lr`, with the formulas of `transformers.get_scheduler`: constant, constant_with_warmup, linear, cosine,
polynomial, inverse_sqrt; cosine_with_restarts and cosine_with_min_lr when `training.extras.lr_scheduler_kwargs`
records their arguments. A trainer logs the rate before or after the scheduler's step, so that for step N the rates of
N-1, N and N+1, and all between them, count as declared. The deviation is the distance from them over the declared rate
(over 1% of the peak, where the schedule goes to 0). Each segment of a resumed run is held against what it declared
itself; of several parameter groups the first is compared.

**`lr_off_schedule` (T07).** At least two records deviate by more than the limit; or, where no schedule can be rebuilt,
the rate was 0 for several logs that are not the first ones.

**Silent** about a schedule that merely began anew at a resume, which `resume_discontinuity` says; after the first
action of a guard, which holds or lowers the rate; and in float16 about lags up to the number of counted overflow
steps, in which the trainer holds the schedule.

**May be wrong** when the scheduler was given arguments that are not recorded, such as another number of cosine waves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradience_analysis.model import Finding, Measurement, Place, Run, plural
from gradience_analysis.policy import Policy
from gradience_analysis.telemetry.schedules import SegmentRates, rates_by_segment
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "lr_off_schedule": "The learning rate is 0 in mid-run, or is not that of the declared schedule.",
}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "lr_schedule_deviation"
_SHOWN = 3


def measure(run: Run) -> tuple[Measurement, ...]:
    """The largest deviation from the declared schedule, and the longest row of logs at 0."""
    segments = rates_by_segment(run)
    return (_deviation(run, segments), _zeros(run, compared=any(one.records for one in segments)))


def _deviation(run: Run, segments: Sequence[SegmentRates]) -> Measurement:
    compared = [one for one in segments if one.worst]
    if not compared:
        reasons = [one.reason for one in segments if one.reason]
        return Measurement(NAME, None, "share of the declared rate", reason=reasons[-1])
    details = {
        "segments": [
            {
                "segment": one.segment,
                "schedule": one.schedule,
                "records": one.records,
                "worst": [deviation.to_dict() for deviation in one.worst],
                "from_resume": [deviation.to_dict() for deviation in one.from_resume],
            }
            for one in compared
        ],
        "not_compared": [{"segment": one.segment, "reason": one.reason} for one in segments if one.reason],
    }
    value = max(one.worst[0].share for one in compared)
    off = {(one.segment, each.step) for one in compared for each in one.worst[:_SHOWN] if each.share > 0}
    source = f"lr of {plural(sum(one.records for one in compared), 'record')} and the declared schedule"
    return Measurement(NAME, value, "share of the declared rate", source, details=details, places=_places(run, off))


def _places(run: Run, off: set[tuple[int, int]]) -> tuple[Place, ...]:
    return tuple(
        segment.place(event)
        for segment in run.segments
        if any(index == segment.index for index, _ in off)
        for event in segment.events
        if event.event == "train_step" and (segment.index, event.step) in off
    )


def _zeros(run: Run, *, compared: bool) -> Measurement:
    """The longest row of logs with a rate of exactly 0 that does not begin with the first log."""
    name = "lr_zero_logs"
    rates = run.series("lr")
    if not rates:
        return Measurement(name, None, "logs in a row", reason="no learning rate was logged. Log lr with train_step.")
    zeros, first, row, start, began = 0, None, 0, rates[0][0], False
    for step, rate in rates:
        if rate != 0.0:
            began, row = True, 0
            continue
        start = step if row == 0 else start
        row += 1
        if began and row > zeros:
            zeros, first = row, start
    details = {"first_step": first, "logs": len(rates), "all": not began, "schedule_compared": compared}
    places = tuple(run.place(event) for event in run.of("train_step") if zeros and event.step == first)[:1]
    return Measurement(name, zeros, "logs in a row", "lr of train_step records", details=details, places=places)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning when the rate is off its schedule, or was 0 in mid-run where no schedule can be rebuilt."""
    deviation, zeros = measurements
    finding = _off_schedule(deviation, policy)
    if finding is None and not zeros.details.get("schedule_compared"):
        finding = _zero(zeros, policy)
    return [finding] if finding is not None else []


def _off_schedule(deviation: Measurement, policy: Policy) -> Finding | None:
    limit, records = policy["learning_rate.deviation"], policy["learning_rate.records"]
    off: list[tuple[Mapping[str, Any], str]] = []
    for segment in deviation.details.get("segments", ()):
        if not began_anew(segment["worst"], segment["from_resume"], limit.value):
            off += [(each, segment["schedule"]) for each in segment["worst"] if each["deviation"] > limit.value]
    if len(off) < records.value:
        return None
    worst, schedule = max(off, key=lambda pair: pair[0]["deviation"])
    return Finding(
        code="lr_off_schedule",
        rule="T07",
        severity=Severity.WARNING,
        message=(
            f"The learning rate is not that of the declared schedule {schedule[:40]}: "
            f"{worst['logged']:.3g} at step {worst['step']}, where {worst['declared']:.3g} was declared."
        ),
        evidence={"deviation": worst["deviation"], "limit": limit.value, "records": [each for each, _ in off]},
        advice=(
            "Look at the scheduler that the trainer really got, at its number of steps and of warm-up steps, "
            "and at what a resume restored."
        ),
        confidence=0.9,
        basis=f"the schedule was rebuilt from the declared numbers; the limit is {limit.standing}",
        caveat="arguments of a scheduler that are not recorded, such as its number of waves, change it too",
        places=deviation.places,
    )


def began_anew(worst: Sequence[Mapping[str, Any]], from_resume: Sequence[Mapping[str, Any]], limit: float) -> bool:
    """Whether the rates after a resume are off the schedule, but on the one counted from the resume."""
    if not worst or not from_resume:
        return False
    return bool(worst[0]["deviation"] > limit >= from_resume[0]["deviation"])


def _zero(zeros: Measurement, policy: Policy) -> Finding | None:
    limit = policy["learning_rate.zero_logs"]
    if zeros.value is None:
        return None
    always = zeros.details["all"] and zeros.details["logs"] >= limit.value
    if not always and int(zeros.value) < limit.value:
        return None
    logs = zeros.details["logs"] if always else int(zeros.value)
    where = "in every one of" if always else f"from step {zeros.details['first_step']} on for"
    return Finding(
        code="lr_off_schedule",
        rule="T07",
        severity=Severity.WARNING,
        message=f"The learning rate was 0 {where} {plural(logs, 'log')}, and such steps change nothing.",
        evidence={"logs_in_a_row": logs, **zeros.details},
        advice="Look at the number of steps that the scheduler was made for, and at what a resume restored.",
        confidence=0.8,
        basis=f"the values stand in the records; the number of logs is {limit.standing}",
        caveat="a schedule that pauses on purpose looks the same",
        places=zeros.places,
    )
