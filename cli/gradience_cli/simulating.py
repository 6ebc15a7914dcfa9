"""The work of `gradience guard simulate`: a run's records to the points that a guard is played over."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gradience_analysis.diagnostics.nonfinite_values import uses_loss_scaler
from gradience_analysis.errors import PolicyError
from gradience_analysis.model import Event, Run, Segment, as_number
from gradience_analysis.policy import Policy
from gradience_analysis.reports.guard import PlayedRun, PlayedStep
from gradience_emit.guard import GuardOptions
from gradience_emit.guard.replay import Replay, ReplayPoint, replay

_MOST_UNSEEN = 10_000
"""Steps between logs that are played for one segment: a counter is a number from a file, and may be any."""


def options_of(policy: Policy, **others: Any) -> GuardOptions:
    """The guard's options: limits by the thresholds `guard.*`, the others as given.

    Raises:
        PolicyError: A threshold is out of its range, or no whole number where it counts something.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(GuardOptions)}
    values: dict[str, Any] = {}
    for full, threshold in policy.under("guard").items():
        name, value = full.partition(".")[2], threshold.value
        counts = isinstance(defaults[name], int)
        if counts and value != int(value):
            raise PolicyError(f"The threshold {full} counts {threshold.unit}: {value:g} is no whole number.")
        values[name] = int(value) if counts else float(value)
    try:
        return GuardOptions(**values, **others)
    except ValueError as error:
        raise PolicyError(
            f"The limits of the guard cannot hold: {error}.", "They are the thresholds guard.*."
        ) from error


def play(run: Run, options: GuardOptions) -> PlayedRun:
    """Play a guard over every segment of a run; each is a process, whose guard would have started anew."""
    training = run.config.training if run.config else None
    clipping = training.max_grad_norm if training else None
    if clipping is not None and not clipping > 0:
        clipping = 0.0
    scaled = uses_loss_scaler(run)
    actions: list[PlayedStep] = []
    points = steps = with_norm = 0
    for segment in run.segments:
        every = list(points_of(segment, clipped=bool(clipping), scaled=scaled))
        played = replay(every, options, steps_of(segment))
        actions += _told(segment, played)
        points += len(every)
        with_norm += sum(point.grad_norm is not None for point in every)
        steps += max(len(every), played.steps or 0)
    return PlayedRun(run, tuple(actions), points, steps, with_norm, clipping, scaled)


def _told(segment: Segment, played: Replay) -> list[PlayedStep]:
    return [
        PlayedStep(
            segment.index,
            action.step,
            str(action.action),
            str(action.trigger),
            action.norm,
            action.limit,
            action.reason,
            action.after,
            action.follows,
        )
        for action in played.actions
    ]


def steps_of(segment: Segment) -> int:
    """Optimizer steps that a segment made, as far as its records tell."""
    last = max((event.step for event in segment.events if event.step is not None), default=0)
    return max(0, last - _begin(segment))


def _begin(segment: Segment) -> int:
    """Steps that were made before it; one that does not say where it resumed began with the first step it logged."""
    if segment.resume_step is not None:
        return max(0, segment.resume_step)
    if segment.index == 0:
        return 0
    return max(
        0, min((event.step for event in segment.events if event.event == "train_step" and event.step), default=1) - 1
    )


def points_of(segment: Segment, *, clipped: bool, scaled: bool) -> Iterator[ReplayPoint]:
    """The steps of a segment that its records tell of, in the order of the file.

    A `train_step` is one point. What its counters say to have been NaN or infinite since the record before, beyond the
    step of the record itself, are points between the two; so is a loss that is not finite beside a norm that is: the
    loss that trainers log is a mean over the steps since the last log.
    """
    reader = _Reader(_begin(segment), clipped, scaled)
    for event in segment.events:
        if event.event == "train_step" and event.step is not None:
            yield from reader.read(event, event.step)


@dataclass(slots=True)
class _Reader:
    """Reads records one after the other.

    Attributes:
        before: Step of the record before.
        unseen: Steps between records that may still be played.
        counted: The counters of the record before.
    """

    before: int
    clipped: bool
    scaled: bool
    unseen: int = _MOST_UNSEEN
    counted: dict[str, int] = field(default_factory=dict[str, int])

    def read(self, event: Event, step: int) -> Iterator[ReplayPoint]:
        """The points between the record before and this one, and its own."""
        loss, norm = _number(event, "loss"), _number(event, "grad_norm")
        new_losses, new_grads = self._new(event, "nonfinite_loss_steps"), self._new(event, "nonfinite_grad_steps")
        room = max(0, step - self.before - 1)
        bad_norm = norm is not None and not math.isfinite(norm)
        if new_losses is None:
            # A trainer that hides NaN logs a mean without it, which is 0 when there is nothing else.
            new_losses = int(loss is not None and (not math.isfinite(loss) or (loss == 0.0 and bad_norm)))
        if new_grads is None:
            new_grads = int(bad_norm)
        bad_loss = new_losses > 0 and (bad_norm or norm is None or room == 0)
        between = (new_losses - bad_loss, new_grads - bad_norm)
        yield from self._between(step, room, *between)
        if loss is not None or norm is not None:
            own = loss if loss is not None and math.isfinite(loss) else None
            yield ReplayPoint(step, own, norm, bad_loss, bad_norm, self.clipped, self.scaled)
        self.before = step

    def _between(self, step: int, room: int, losses: int, grads: int) -> Iterator[ReplayPoint]:
        hidden = max(0, min(max(losses, grads), room, self.unseen))
        self.unseen -= hidden
        for place in range(hidden):
            known = hidden == room
            yield ReplayPoint(
                self.before + 1 + place if known else step - 1,
                nonfinite_loss=place < losses,
                nonfinite_grad=place < grads,
                clipped=self.clipped,
                scaled=self.scaled,
                after=None if known else self.before,
            )

    def _new(self, event: Event, name: str) -> int | None:
        """What a counter that is cumulative rose by; None without it."""
        number = _number(event, name)
        if number is None or not 0 <= number < math.inf:
            return None
        before = self.counted.get(name, 0)
        self.counted[name] = max(before, int(number))
        return max(0, int(number) - before)


def _number(event: Event, name: str) -> float | None:
    value = as_number(event.payload.get(name))
    try:
        return None if value is None else float(value)
    except OverflowError:  # an integer that no float can hold
        return math.inf
