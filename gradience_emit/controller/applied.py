"""A loop that tells of its steps when they are over, with its own functions to save and to load its state.

The update is in the weights by then, so none can be dropped. What decides is the state: non-finite weights are rolled
back. A non-finite loss or gradient over finite weights is noted: the loop has handled it by itself. A gradient that
stands out and is not clipped has been applied, and its traces in the optimizer cannot be seen from here: it is rolled
back too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from gradience_emit.boundary import attempt
from gradience_emit.controller.journal import Journal
from gradience_emit.controller.options import ControllerOptions
from gradience_emit.controller.user_state import UserState
from gradience_emit.guard.policy import Action, Decision
from gradience_emit.guard.record import GuardRecord, GuardSummary
from gradience_emit.guard.recovery import Guard
from gradience_emit.guard.triggers import Judgement, Trigger, Verdict
from gradience_emit.spectral import SpectralMonitor
from gradience_emit.spectral.actions import observe, tell_of_rollback

__all__ = ["AppliedGuard", "AppliedUpdates"]

_EXPLODED: Final = frozenset({Trigger.GRADIENT_CAP, Trigger.GRADIENT_SPIKE})
_T = TypeVar("_T")


class AppliedGuard(Guard):
    """The guard of updates that are applied already: it restores, but has nothing to drop."""

    def _examine(self, step: int, norm: Any, clipped: bool, scaled: bool) -> Judgement:
        # the state after this step is the state before the next one, by whose number the guard counts its snapshots
        judged = super()._examine(step + 1, norm, clipped, scaled)
        if judged.verdict is not Verdict.SKIP:
            return judged
        return replace(judged, verdict=Verdict.RESTORE if judged.trigger in _EXPLODED else Verdict.WARN)

    def _let_go(self, step: int, judged: Judgement) -> None:
        if judged.verdict is Verdict.WARN:
            self.record.noticed(step, judged, self._last_loss())
            judged = replace(judged, verdict=Verdict.GOOD)
        super()._let_go(step + 1, judged)


class _AppliedRecord(GuardRecord):
    def _sentence(self, decision: Decision, judged: Judgement, restored: Mapping[str, Any]) -> str:
        sentence = super()._sentence(decision, judged, restored)
        return sentence.replace("skipped the update", "waits")  # there is no update to skip


class AppliedUpdates:
    """Follows a loop by what it tells of each step after it.

    Args:
        options: the controller's options.
        state: the training's state.
        journal: the run's telemetry.
        monitor: the spectral monitor; None without one.
        report_fault: told about a fault in here, which never reaches the loop.
        clipped: whether the loop clips its gradients.

    Attributes:
        guard: the guard; None when it is off.
        step: number of the last step.
        halted: the decision to stop; None when there was none.
    """

    def __init__(
        self,
        options: ControllerOptions,
        state: UserState,
        journal: Journal,
        monitor: SpectralMonitor | None,
        report_fault: Callable[[Exception, str], None],
        *,
        clipped: bool = False,
    ) -> None:
        self.step = options.initial_step
        self._clipped = clipped
        self._norm: Any = None
        self.halted: Decision | None = None
        self._options, self._state, self._journal = options, state, journal
        self.monitor, self._report = monitor, report_fault
        record = _AppliedRecord(options.guard, lambda: journal.writer)
        self.guard = AppliedGuard(options.guard, state, record, report_fault) if options.enable_guard else None

    def begin(self) -> None:
        """The run begins: a snapshot of the state that it begins with."""
        if self.guard is not None:
            self.guard.begin(self.step)
            self.guard.begin_step()
            decision = self.guard.before_update(self.step, norm=0.0)
            self.halted = decision if decision.stops else None

    def step_over(self, step: int, loss: Any) -> bool:
        """A step is over; False when training is to stop.

        Args:
            step: its number. It counts on where the loop itself goes back: the guard's own count never does.
            loss: its loss, a tensor or a number; None when unknown.
        """
        self.step = max(step, self.step + 1)
        decision = self._safely(lambda: self._judge(loss), Decision(Action.GO), "judging a step")
        if decision.stops:
            self.halted = decision
        applied, rate = decision.action is Action.GO, self._safely(self._state.learning_rate, None, "get_lr")
        self._safely(
            lambda: self._journal.step_ended(self.step, applied=applied, lr=rate, norm=self._norm),
            None,
            "logging a step",
        )
        self._safely(lambda: self._observe(decision), None, "the spectral monitor")
        return self.halted is None

    def check(self) -> Decision:
        """Look at the weights and restore damaged ones."""
        return Decision(Action.GO) if self.guard is None else self.guard.check(self.step)

    def finish(self, *, complete: bool) -> GuardSummary | None:
        """The end of the run; what the guard did."""
        if self.guard is None:
            return None
        if complete:
            self.guard.check(self.step)
        return self.guard.finish(self.step, complete=complete)

    def _judge(self, loss: Any) -> Decision:
        guard, losses = self.guard, self._journal.losses
        if loss is not None:
            self._safely(lambda: losses.add(loss), None, "a loss")
        if guard is None:
            self._norm = self._state.gradient_norm() if self._journal.is_due(self.step) else None
            return Decision(Action.GO)
        self._norm = self._safely(self._state.gradient_norm, None, "the gradient norm")
        for value in losses.step_losses:
            guard.saw_loss(value)
        guard.begin_step()
        decision = guard.before_update(self.step, norm=0.0 if self._norm is None else self._norm, clipped=self._clipped)
        guard.updated()
        guard.after_update()
        return decision

    def _observe(self, decision: Decision) -> None:
        monitor, guard = self.monitor, self.guard
        if monitor is None:
            return
        if guard is not None:
            tell_of_rollback(decision, monitor, guard)
        if monitor.due(self.step):
            acting = guard if self._options.spectral_actions else None
            wanted = observe(monitor, self.step, self._journal.writer, acting)
            self.halted = wanted if wanted.stops else self.halted

    def _safely(self, action: Callable[[], _T], otherwise: _T, where: str) -> _T:
        def report(fault: Exception) -> _T:
            self._report(fault, where)
            return otherwise

        return attempt(action, report)
