"""What a guard would have done in a run that was recorded: the same triggers and the same policy, played over its log.

A log is less than the run. It has the steps that were logged, so that the spike rule knows fewer norms than it would
have known, and steps between two logs are seen only where something counted them. It has no weights: a state that is
damaged outside the gradient, and the rollback that follows, cannot be seen in it. And it went on as a run without this
guard: the steps in a row after a NaN are often what the NaN did to the weights, and would not have come.

Standard library only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from gradience_emit.guard.options import GuardOptions
from gradience_emit.guard.policy import Action, Policy
from gradience_emit.guard.triggers import Signals, Trigger, Triggers, Verdict

__all__ = ["Played", "Replay", "ReplayAction", "ReplayPoint", "replay"]


class Played(StrEnum):
    """What a guard would have done at a step."""

    WARN = "warn"
    """Noted; the update is applied."""
    SCALED = "scaled"
    """Left to the gradient scaler, which leaves the update out."""
    SKIP = "skip"
    """The gradient is dropped."""
    ABORT = "abort"
    """The guard gives up; nothing after it is played."""


@dataclass(frozen=True, slots=True)
class ReplayPoint:
    """What a record shows of one optimizer step.

    Attributes:
        step: the step's number.
        loss: its loss; None when it was not logged, or is not that of this step.
        grad_norm: L2 norm of the gradient before clipping, NaN and infinity included; None when it is not known.
        nonfinite_loss: the loss was NaN or infinite, whatever `loss` says.
        nonfinite_grad: the gradient was, whatever `grad_norm` says.
        clipped: the gradient was clipped before it was applied.
        scaled: a gradient scaler was in use.
        after: the step of the log before, where only a count tells that it happened between that log and `step`.
    """

    step: int
    loss: float | None = None
    grad_norm: float | None = None
    nonfinite_loss: bool = False
    nonfinite_grad: bool = False
    clipped: bool = False
    scaled: bool = False
    after: int | None = None

    def signals(self) -> Signals:
        """The same as the guard would have been shown it in training."""
        shown = self.grad_norm is not None and not math.isfinite(self.grad_norm)
        bad_loss = self.nonfinite_loss or (self.loss is not None and not math.isfinite(self.loss))
        return Signals(
            loss_is_finite=False if bad_loss else None if self.loss is None else True,
            norm=math.nan if self.nonfinite_grad and not shown else self.grad_norm,
            clipped=self.clipped,
            scaled=self.scaled,
            loss=self.loss,
        )


@dataclass(frozen=True, slots=True)
class ReplayAction:
    """One thing that a guard would have done.

    Attributes:
        step: the step.
        action: what.
        trigger: what was seen.
        norm: the gradient norm; None when unknown.
        limit: the norm above which it is too large; None when nothing limited it.
        reason: why it is that and not something else; empty where the trigger says it.
        after: as in the point: somewhere after that step, up to `step`.
        follows: it belongs to an unbroken row of values that are not finite, and is not the first of them: a guard that
            left out the first might not have met it.
    """

    step: int
    action: Played
    trigger: Trigger
    norm: float | None = None
    limit: float | None = None
    reason: str = ""
    after: int | None = None
    follows: bool = False


@dataclass(frozen=True, slots=True)
class Replay:
    """A guard played over a record.

    Attributes:
        actions: what it would have done, in order.
        points: steps that were played.
        steps: optimizer steps that the run made; None when that is not known.
        with_norm: how many of the played ones have a gradient norm, finite or not.
        stopped_at: step at which it would have given up; None when it would not.
    """

    actions: tuple[ReplayAction, ...]
    points: int
    steps: int | None
    with_norm: int
    stopped_at: int | None

    @property
    def counts(self) -> Mapping[str, int]:
        """How often it would have done each of `Played`; 0 included."""
        found = Counter(str(action.action) for action in self.actions)
        return {str(kind): found[str(kind)] for kind in Played}

    @property
    def triggers(self) -> Mapping[str, int]:
        """What it would have acted on, and how often; the most frequent first."""
        return dict(Counter(str(action.trigger) for action in self.actions).most_common())


def replay(points: Iterable[ReplayPoint], options: GuardOptions, steps: int | None = None) -> Replay:
    """Play a guard over a record, up to its end or to where the guard would have given up.

    No more points are taken than are played, so that they may come from a generator. Spikes go by norms of the points
    alone; ``cooldown_steps`` and ``window_steps`` are of rollbacks, of which a record shows no cause.

    Args:
        points: the steps of one process, in order; a resumed run is one replay a process, as its guard starts anew.
        options: the limits.
        steps: optimizer steps that the process made, to set the number of points against.
    """
    triggers, policy = Triggers(options), Policy(options)
    actions: list[ReplayAction] = []
    played = with_norm = 0
    broken = False  # whether the step before was not finite
    for point in points:
        played += 1
        with_norm += point.grad_norm is not None
        judgement = triggers.judge(point.signals())
        decision = policy.decide(point.step, judgement.verdict, can_restore=False)
        follows, broken = broken, judgement.trigger in _NOT_FINITE
        kind = _PLAYED.get(decision.action, _GONE.get(judgement.verdict))
        trigger = judgement.trigger
        if kind is None or trigger is None:
            continue
        told = (judgement.norm, judgement.limit, decision.reason, point.after, follows and broken)
        actions.append(ReplayAction(point.step, kind, trigger, *told))
        if kind is Played.ABORT:
            return Replay(tuple(actions), played, steps, with_norm, point.step)
    return Replay(tuple(actions), played, steps, with_norm, None)


_NOT_FINITE = frozenset({Trigger.NONFINITE_LOSS, Trigger.NONFINITE_GRADIENT})
_PLAYED: Mapping[Action, Played] = {Action.SKIP: Played.SKIP, Action.ABORT: Played.ABORT}
_GONE: Mapping[Verdict, Played] = {Verdict.WARN: Played.WARN, Verdict.SCALED: Played.SCALED}
"""What is told of a step whose update is applied, by its verdict."""
