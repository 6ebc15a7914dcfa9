"""Resume: whether a resumed run goes on where it was, in step, learning rate, loss and optimizer.

Taken at each segment that says from which step it resumed, or that follows the last step of the segment before it. A
segment that starts over from the first step is a resume that lost its step number when its loss goes on where it was,
and a new beginning (as after a change of the batch size) when its loss starts over too. Steps that an earlier segment
had trained beyond the checkpoint are trained again and replace it, which is as it should be.

**Measured.** *Steps in no file*: those between the last record and the checkpoint, and between the checkpoint and the
first record, beyond the interval at which the run logs. *Loss*: the median of the first three logs after the resume
over that of the last five up to it. *Replayed steps*: where both segments logged the same step after the checkpoint,
with the same settings, the relative difference of the two losses (0 when weights, optimizer, random state and data
position all came back; noise of the device makes it small). *Learning rate*: whether it follows the schedule counted
from the resume, or repeats its own start. *Optimizer*: what the trainer says itself (`meta.optimizer_restored`).

**`resume_discontinuity` (T09).** One of these is beyond its limit.

**May be wrong** when the data order of a resume is meant to differ, or a long pause changed the data. **Silent** about
a lost optimizer state when the schedule is constant, no step was trained twice and the trainer says nothing: the
transient that follows is no larger than the noise of the batches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, cast

from gradience_analysis.diagnostics.learning_rate import began_anew
from gradience_analysis.model import Event, Finding, Measurement, Place, Run, Segment, as_number, first_number
from gradience_analysis.policy import Policy
from gradience_analysis.series.robust import median
from gradience_analysis.telemetry.schedules import rates_by_segment
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "resume_discontinuity": "After a resume the step, the loss or the learning rate does not continue where it was.",
}
COVERS: Mapping[str, frozenset[str]] = {"resume_discontinuity": frozenset({"loss_spike", "no_learning"})}
NAME = "resumes"
_BEFORE: Final = 5
_AFTER: Final = 3
_SAME_SETTINGS: Final = ("batch_size", "gradient_accumulation", "seed", "world_size", "num_train_examples", "dtype")


@dataclass(frozen=True, slots=True)
class _Log:
    """One train_step record with a step, as far as a resume is judged by it."""

    step: int
    loss: float | None
    rate: float | None
    event: Event


@dataclass(frozen=True, slots=True)
class _Join:
    """A resumed segment and what lies before it.

    Attributes:
        segment: The segment.
        before: Records of earlier segments, each with the segment that wins, in order of step.
        after: Records of this one.
        origin: Last step before it: that of the checkpoint, else the last one that was logged.
        last: Last step that any record before it names.
    """

    segment: Segment
    before: Sequence[_Log]
    after: Sequence[_Log]
    origin: int
    last: int


@dataclass(frozen=True, slots=True)
class _Break:
    """One thing that does not continue: in words, how sure it is, and the threshold it was held against, if any."""

    words: str
    confidence: float
    threshold: str = ""


def measure(run: Run) -> tuple[Measurement, ...]:
    """Number of resumes, with what each shows; a run in one piece has none, which is measured."""
    joins, over = _joins(run)
    rates = {one.segment: one for one in rates_by_segment(run)} if joins else {}
    shown: list[dict[str, Any]] = []
    places: list[Place] = []
    for join in joins:
        schedule = rates[join.segment.index]
        shown.append(
            {
                "segment": join.segment.index,
                "resume_step": join.origin,
                "last_step_before": join.last,
                "first_logged_step": join.after[0].step,
                "steps_in_no_file": _missing(join),
                **_loss_ratio(join),
                **_replayed(run, join),
                "lr_worst": [one.to_dict() for one in schedule.worst],
                "lr_from_resume": [one.to_dict() for one in schedule.from_resume],
                "lr_repeats_start": None if schedule.worst else _repeats_start(join),
                "optimizer_restored": join.segment.meta.get("optimizer_restored"),
                "on_cpu": run.meta.get("device") == "cpu",
            }
        )
        places.append(Place(join.after[0].step, join.segment.path, join.after[0].event.line))
    source = "resume_step of run_start, and the train_step records on both sides of it"
    resumes = Measurement(NAME, len(joins), "resumes", source, details={"resumes": shown}, places=tuple(places))
    return (resumes, _starts_over(over))


def _starts_over(over: Sequence[_Join]) -> Measurement:
    """Segments that began at the first step again, with the loss at the run's start, at its end, and after."""
    shown: list[dict[str, Any]] = []
    places: list[Place] = []
    for join in over:
        losses = [[log.loss for log in logs if log.loss is not None] for logs in (join.before, join.after)]
        before, after = losses
        if min(len(before), len(after)) < _AFTER:
            continue
        start, late, again = median(before[:_AFTER]), median(before[-_BEFORE:]), median(after[:_AFTER])
        told = {"segment": join.segment.index, "last_step": join.last, "first_logged_step": join.after[0].step}
        shown.append({**told, "loss_at_start": start, "loss_before": late, "loss_after": again})
        places.append(Place(join.after[0].step, join.segment.path, join.after[0].event.line))
    source = "train_step records of segments that begin at the first step again"
    return Measurement("starts_over", len(over), "segments", source, details={"starts": shown}, places=tuple(places))


def _joins(run: Run) -> tuple[list[_Join], list[_Join]]:
    """The segments that resumed, and those that began at the first step again."""
    joins: list[_Join] = []
    over: list[_Join] = []
    if len(run.segments) == 1:
        return joins, over
    before: list[_Log] = []
    last = 0
    for segment in run.segments:
        logs = _logs(segment)
        if logs and before:
            origin = segment.resume_step or _origin(before, logs)
            (joins if origin else over).append(_Join(segment, before, logs, origin or 0, last))
        if logs:
            before = [log for log in before if log.step < logs[0].step] + logs
        last = max(last, _last_step(segment))
    return joins, over


def _last_step(segment: Segment) -> int:
    """The last step that any of its records names; 0 when none does."""
    named = [event.step or 0 for event in segment.events]
    end = as_number(segment.end.payload.get("global_step")) if segment.end else None
    return max([*named, int(end) if end is not None and math.isfinite(end) else 0])


def _origin(before: Sequence[_Log], after: Sequence[_Log]) -> int | None:
    """The step a segment went on from that does not say it; None when it started over."""
    interval = _interval(after) or _interval(before)
    if after[0].step <= interval:
        return None
    return before[-1].step if after[0].step > before[-1].step else after[0].step - interval


def _logs(segment: Segment) -> list[_Log]:
    found: list[_Log] = []
    for event in segment.events:
        if event.event == "train_step" and event.step is not None:
            loss, rate = as_number(event.payload.get("loss")), first_number(event.payload.get("lr"))
            finite = float(loss) if loss is not None and math.isfinite(loss) else None
            found.append(_Log(event.step, finite, None if rate is None else float(rate), event))
    return found


def _interval(logs: Sequence[_Log]) -> int:
    """The most steps between two logs; the first step itself when there is only one."""
    gaps = [after.step - before.step for before, after in pairwise(logs)]
    return max(gaps, default=logs[0].step if logs else 0)


def _missing(join: _Join) -> int:
    """Steps that no record accounts for; less than a whole log more than the interval is no gap."""
    interval = max(_interval(join.before), _interval(join.after), 1)
    gaps = (join.origin - join.last, join.after[0].step - join.origin)
    repeated = join.origin + 1 - join.after[0].step if join.segment.resume_step else 0
    return max(0, repeated, *(gap - interval for gap in gaps if gap >= 2 * interval))


def _loss_ratio(join: _Join) -> dict[str, Any]:
    before = [log.loss for log in join.before if log.loss is not None and log.step <= join.origin][-_BEFORE:]
    after = [log.loss for log in join.after if log.loss is not None][:_AFTER]
    if len(before) < _AFTER or len(after) < _AFTER or median(before) <= 0:
        return {"loss_ratio": None, "loss_before": None, "loss_after": None, "highest_before": None}
    middle, late = median(before), median(after)
    return {"loss_ratio": late / middle, "loss_before": middle, "loss_after": late, "highest_before": max(before)}


def _replayed(run: Run, join: _Join) -> dict[str, Any]:
    """The first step that both segments logged over the same steps after the checkpoint, and how the losses differ."""
    nothing = {"replayed_step": None, "replayed_losses": None, "replayed_difference": None}
    if not _same_settings(run, join.segment):
        return nothing
    earlier = {log.step: (log, place) for place, log in enumerate(join.before)}
    for place, log in enumerate(join.after):
        found = earlier.get(log.step)
        if found is None or found[0].loss is None or log.loss is None:
            continue
        old, position = found
        # A logged loss is a mean since the log before it: only where both means cover the same steps they compare.
        start = join.before[position - 1].step if position else 0
        begin = join.after[place - 1].step if place else join.origin
        if start == begin:
            size = max(abs(log.loss), abs(old.loss or 0.0))
            difference = abs(log.loss - (old.loss or 0.0)) / size if size else 0.0
            losses = [old.loss, log.loss]
            return {"replayed_step": log.step, "replayed_losses": losses, "replayed_difference": difference}
    return nothing


def _same_settings(run: Run, segment: Segment) -> bool:
    """Whether the segment declares the batches and the numeric type of the one before it."""
    settings: list[dict[str, Any]] = []
    for one in (run.segments[segment.index - 1], segment):
        start = next((event for event in one.events if event.event == "run_start"), None)
        training = start.payload["config"].get("training") if start else None
        settings.append(cast("dict[str, Any]", training) if isinstance(training, dict) else {})
    return all(settings[0].get(name) == settings[1].get(name) for name in _SAME_SETTINGS)


def _repeats_start(join: _Join) -> bool | None:
    """Whether the rates after the resume repeat those of the first steps, and not go on; None when unknown."""
    first = {log.step: log.rate for log in join.before if log.rate is not None}
    pairs = [
        (log.rate, first[log.step - join.origin])
        for log in join.after[:_BEFORE]
        if log.rate is not None and log.step - join.origin in first
    ]
    rates = [log.rate for log in join.before if log.rate is not None and log.step <= join.origin]
    if len(pairs) < 2 or not rates:
        return None
    same = all(math.isclose(rate, start, rel_tol=1e-6) for rate, start in pairs)
    went_on = math.isclose(pairs[0][0], rates[-1], rel_tol=0.1)
    return same and not went_on


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """One warning for the resumes that do not continue what was before them."""
    resumes, over = measurements
    broken = [
        (one, place, breaks)
        for one, place in zip(resumes.details["resumes"], resumes.places, strict=True)
        if (breaks := _breaks(one, policy))
    ]
    broken += [
        (one, place, [_lost_step(one)])
        for one, place in zip(over.details["starts"], over.places, strict=True)
        if _kept_its_weights(one, policy)
    ]
    if not broken:
        return []
    first, _, breaks = max(broken, key=lambda item: max(each.confidence for each in item[2]))
    where = f"The resume at step {first['resume_step']} does not continue the run: " if "resume_step" in first else ""
    others = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
    said = where + "; ".join(each.words for each in breaks)
    surest = max(breaks, key=lambda each: each.confidence)
    return [
        Finding(
            code="resume_discontinuity",
            rule="T09",
            severity=Severity.WARNING,
            message=f"{said[0].upper()}{said[1:]}{others}.",
            evidence={"resumes": [one for one, _, _ in broken]},
            advice=(
                "Look at whether the checkpoint holds optimizer, scheduler and random state, and whether the data goes "
                "on where it was; resume from a complete checkpoint."
            ),
            confidence=surest.confidence,
            basis=f"the records on both sides of the resume{_standing(surest, policy)}",
            caveat="a resume that is meant to change data or schedule looks the same",
            places=tuple(place for _, place, _ in broken)[:_BEFORE],
        )
    ]


def _standing(surest: _Break, policy: Policy) -> str:
    return f"; the limit is {policy[surest.threshold].standing}" if surest.threshold else ""


def _lost_step(one: Mapping[str, Any]) -> _Break:
    return _Break(
        f"the steps began at {one['first_logged_step']} again after step {one['last_step']}, while the loss went on "
        f"at {one['loss_after']:.3g} and not at the {one['loss_at_start']:.3g} of the start",
        0.7,
        "resume.learned_ratio",
    )


def _kept_its_weights(one: Mapping[str, Any], policy: Policy) -> bool:
    """Whether a segment that counts from the first step again goes on with the loss that had been reached."""
    start, late, again = one["loss_at_start"], one["loss_before"], one["loss_after"]
    if not (late > 0 and start >= policy.limit("resume.learned_ratio") * late):
        return False
    return bool(again < math.sqrt(start * late))


def _breaks(one: Mapping[str, Any], policy: Policy) -> list[_Break]:
    """What does not continue at one resume."""
    found: list[_Break] = []
    if one["optimizer_restored"] is False:
        found.append(_Break("the trainer recorded that the optimizer state was not restored", 0.95))
    deviation = "learning_rate.deviation"
    if one["lr_repeats_start"] or began_anew(one["lr_worst"], one["lr_from_resume"], policy.limit(deviation)):
        found.append(_Break("the learning rate began its schedule anew", 0.95, deviation))
    if one["steps_in_no_file"] > policy.limit("resume.steps_in_no_file"):
        words = (
            f"the last step before it is {one['last_step_before']}, and its first log is at {one['first_logged_step']}"
        )
        found.append(_Break(words, 0.8, "resume.steps_in_no_file"))
    ratio = one["loss_ratio"]
    if ratio is not None and ratio > policy.limit("resume.loss_ratio") and one["loss_after"] > one["highest_before"]:
        words = f"the loss went from {one['loss_before']:.3g} to {one['loss_after']:.3g}"
        found.append(_Break(words, 0.8, "resume.loss_ratio"))
    difference = one["replayed_difference"]
    name = "resume.replayed_on_cpu" if one["on_cpu"] else "resume.replayed"
    if difference is not None and difference > policy.limit(name):
        old, new = one["replayed_losses"]
        words = f"step {one['replayed_step']}, trained twice, had the loss {old:.4g} and then {new:.4g}"
        found.append(_Break(words, 0.8 if difference > 10 * policy.limit(name) else 0.6, name))
    return found
