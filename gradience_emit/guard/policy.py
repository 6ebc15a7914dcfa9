"""What is done about a bad step: skip, roll back, give up; cooldown, rolling window and back-off.

Standard library only, and it touches nothing: `recovery` carries the decisions out, `replay` plays them over a file.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from gradience_emit.guard.options import GuardOptions
from gradience_emit.guard.triggers import Verdict

__all__ = ["Action", "Decision", "Policy"]


class Action(StrEnum):
    """What happens to an optimizer step."""

    GO = "go"
    """The update is applied."""
    SKIP = "skip"
    """The gradient is dropped; weights, optimizer and schedule stay, and the step's random numbers are given back."""
    ROLLBACK = "rollback"
    """A snapshot is restored, and the gradient is dropped."""
    ABORT = "abort"
    """The guard gives up. A damaged state is restored first, when there is a snapshot."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with one step.

    Attributes:
        action: what.
        reason: why it is that and not something else, in words; empty where the verdict alone decides.
        stops: whether training is to end here.
    """

    action: Action
    reason: str = ""
    stops: bool = False


class Policy:
    """Decides step by step; the same verdicts give the same decisions, on every rank.

    A rollback at step s forbids another before step s + ``cooldown_steps``; a damaged state is skipped over until then.
    A rollback that would be the one after ``max_rollbacks`` within the last ``window_steps`` is an abort, and so is the
    ``max_skips``-th bad step in a row, whatever was tried against it. Only an applied update ends a row. A fault of the
    guard's own is an abort that never stops training.

    Args:
        options: the limits.

    Attributes:
        lr_multiplier: factor on the learning rate, 1 until a rollback backs it off.
        gave_up: whether the guard has given up; it then lets everything pass.
        bad_in_a_row: bad steps since the last applied update.
    """

    def __init__(self, options: GuardOptions) -> None:
        self._options = options
        self._rollbacks: deque[int] = deque()
        self._backoffs = 0
        self.lr_multiplier = 1.0
        self.gave_up = False
        self.bad_in_a_row = 0

    def decide(self, step: int, verdict: Verdict, *, can_restore: bool) -> Decision:
        """The decision on one step.

        Args:
            step: the step's number, counted on through skips and rollbacks.
            verdict: how bad it is.
            can_restore: whether there is a snapshot.
        """
        if self.gave_up:
            return Decision(Action.GO, "the guard has given up")
        if verdict <= Verdict.WARN:
            self.bad_in_a_row = 0
            return Decision(Action.GO)
        self.bad_in_a_row += 1
        hopeless = self._hopeless(verdict, can_restore=can_restore)
        if hopeless:
            return self._give_up(hopeless, stops=verdict is not Verdict.FAILED)
        if verdict is Verdict.RESTORE:
            return self._restore(step)
        if verdict is Verdict.SCALED:
            return Decision(Action.GO, "the gradient scaler leaves this update out")
        return Decision(Action.SKIP)

    def _hopeless(self, verdict: Verdict, *, can_restore: bool) -> str:
        """Why to give up; empty when there is something left to try."""
        if verdict is Verdict.FAILED:
            return "the guard itself failed"
        if verdict is Verdict.RESTORE and not can_restore:
            return "there is no snapshot to restore"
        if self.bad_in_a_row >= self._options.max_skips:
            return f"{self.bad_in_a_row} bad steps in a row"
        return ""

    def back_off(self) -> None:
        """Lower the learning rate, when that is asked for and was not done too often yet."""
        if self._options.lr_backoff is not None and self._backoffs < self._options.max_backoffs:
            self._backoffs += 1
            self.lr_multiplier *= self._options.lr_backoff

    def _restore(self, step: int) -> Decision:
        options, rollbacks = self._options, self._rollbacks
        if rollbacks and step - rollbacks[-1] < options.cooldown_steps:
            return Decision(Action.SKIP, f"{options.cooldown_steps} steps of cooldown since the rollback")
        while rollbacks and step - rollbacks[0] >= options.window_steps:
            rollbacks.popleft()
        if len(rollbacks) >= options.max_rollbacks:
            return self._give_up(f"{len(rollbacks)} rollbacks within {options.window_steps} steps")
        rollbacks.append(step)
        self.back_off()
        return Decision(Action.ROLLBACK)

    def _give_up(self, reason: str, *, stops: bool = True) -> Decision:
        self.gave_up = True
        return Decision(Action.ABORT, reason, stops=stops and self._options.on_abort == "stop")
