"""A loop whose optimizer can be stopped before its step: what happens when, to the guard, the monitor and the journal.

=============================  ==========================================================
in the loop                    what happens here
=============================  ==========================================================
first forward pass of a step   `forward_began`: the step before is over (see there), random numbers are noted
a loss is known                `saw_loss`
the optimizer's step begins    `before_update`: the guard decides
the optimizer's step is over   `updated`: the learning rate is the schedule's again, the step is logged
the schedule moves             nothing
next forward pass, or the end  `step_over`: the schedule is set back where the update was dropped; the monitor measures
=============================  ==========================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from gradience_emit.boundary import attempt
from gradience_emit.controller.journal import Journal
from gradience_emit.controller.options import ControllerOptions
from gradience_emit.controller.schedule import LoopState
from gradience_emit.guard.policy import Action, Decision
from gradience_emit.guard.record import GuardRecord, GuardSummary
from gradience_emit.guard.recovery import Guard
from gradience_emit.guard.refusal import GuardUnsupportedError
from gradience_emit.spectral import SpectralMonitor
from gradience_emit.spectral.actions import observe, tell_of_rollback

__all__ = ["GuardAbortError", "Updates", "spectral_monitor"]

_GO = Decision(Action.GO)
_T = TypeVar("_T")


class GuardAbortError(RuntimeError):
    """The guard gave up, and the training loop must end.

    Attributes:
        step: the optimizer step.
        reason: why it gave up.
    """

    def __init__(self, step: int, reason: str) -> None:
        self.step, self.reason = step, reason
        super().__init__(
            f"the guard stopped training at step {step}: {reason}. "
            'The update of this step was not applied; guard_on_abort="continue" trains on without the guard.'
        )


class Updates:
    """Follows the optimizer steps of a loop.

    Args:
        options: the controller's options.
        state: the training's state.
        journal: the run's telemetry.
        report_fault: told about a fault in here, which never reaches the loop.

    Attributes:
        guard: the guard; None when it is off.
        monitor: the spectral monitor; None without one.
        step: number of the last step.
        halted: the decision to stop; None when there was none.
    """

    def __init__(
        self,
        options: ControllerOptions,
        state: LoopState,
        journal: Journal,
        report_fault: Callable[[Exception, str], None],
    ) -> None:
        self.step = options.initial_step
        self.monitor: SpectralMonitor | None = None
        self.halted: Decision | None = None
        self._options, self._state, self._journal, self._report = options, state, journal, report_fault
        record = GuardRecord(options.guard, lambda: journal.writer)
        self.guard = Guard(options.guard, state, record, report_fault) if options.enable_guard else None
        self._begun = self._begun_training = self._loss_seen = self._over_is_due = False
        self._applied, self._norm, self._counts = True, None, True
        self._first = True

    def begin(self) -> None:
        """The run begins."""
        if self.guard is not None:
            self.guard.begin(self.step)

    def forward_began(self, *, training: bool) -> None:
        """A forward pass with gradients is about to run; the first one of a step begins it.

        A step is begun anew when the forward passes before were evaluation without ``torch.no_grad``, or when a loss
        was seen of which no gradient is left: the loop has thrown that batch away by itself.
        """
        self._safely(self.step_over, None, "the end of a step")
        evaluated = training and self._begun and not self._begun_training
        if not self._begun or evaluated or (self._loss_seen and not self._state.has_gradient()):
            self._begin_step(training=training)

    def saw_loss(self, loss: Any) -> None:
        """The loss of a micro-batch: a tensor or a number."""
        self._loss_seen = True
        self._safely(lambda: self._journal.losses.add(loss), None, "a loss")

    def replace_loss(self, loss: Any) -> None:
        """The loss of the whole step, whatever was seen of it."""
        self._journal.losses.forget_step()
        self.saw_loss(loss)

    def before_update(
        self, norm: Any = None, *, clipped: bool = False, scale: Any = None, overflow: bool | None = False
    ) -> Decision:
        """The gradients are complete: decide what becomes of the update.

        Args:
            norm: the gradient norm before clipping; computed here when None.
            clipped: whether the gradient is clipped.
            scale: what the gradients are still multiplied with; None for nothing.
            overflow: whether a gradient scaler leaves this update out, because its scale was too large for the
                gradient; None: it does where the norm is not finite.

        Raises:
            GuardUnsupportedError: gradients of this model belong to another optimizer.
        """
        self._safely(self.step_over, None, "the end of a step")
        if not self._begun:  # no forward pass of the model was seen: what it drew cannot be given back
            self._begin_step(training=True)
        self.step += 1
        self._check_first()
        return self._safely(lambda: self._decide(norm, clipped, scale, overflow), _GO, "deciding on an update")

    def updated(self) -> None:
        """The optimizer's step is over, or was left out; the schedule has not moved yet."""
        if self._over_is_due or not self._begun:
            return
        self._begun = self._loss_seen = False
        self._over_is_due = True
        self._safely(self._end_update, None, "the end of an update")

    def step_over(self) -> None:
        """The schedule has moved, if it was to: the step is over. Does nothing when that is known already."""
        if not self._over_is_due:
            return
        self._over_is_due = False
        if self._counts:
            self._state.compare_place()
        if self.guard is not None:
            self.guard.after_update()
        if self.monitor is not None and self.monitor.due(self.step):
            acting = self.guard if self._options.spectral_actions else None
            decision = observe(self.monitor, self.step, self._journal.writer, acting)
            if decision.stops:
                self.halted = decision

    def check(self) -> Decision:
        """Look at the state between two steps and restore a damaged one."""
        self._safely(self.step_over, None, "the end of a step")
        return _GO if self.guard is None else self.guard.check(self.step)

    def finish(self, *, complete: bool) -> GuardSummary | None:
        """The end of the run; what the guard did."""
        self._safely(self.step_over, None, "the end of a step")
        if self.guard is None:
            return None
        if complete:
            self.guard.check(self.step)
        return self.guard.finish(self.step, complete=complete)

    def _decide(self, norm: Any, clipped: bool, scale: Any, overflow: bool | None) -> Decision:
        if norm is None and overflow is not True and (self.guard is not None or self._journal.is_due(self.step)):
            norm = self._safely(lambda: self._gradient_norm(scale), None, "the gradient norm")
        if overflow is None:
            overflow = norm is not None and not math.isfinite(float(norm))
        self._counts, self._norm = not overflow, norm
        decision = self._judge(math.inf if overflow else norm, clipped=clipped, overflow=overflow)
        self._applied = decision.action is Action.GO and not overflow
        if decision.stops:
            self.halted = decision
        return decision

    def _judge(self, norm: Any, *, clipped: bool, overflow: bool) -> Decision:
        guard, losses = self.guard, self._journal.losses.step_losses
        if guard is None or (overflow and not losses):
            return _GO  # of an overflow under an unknown loss there is nothing to judge: it is the scaler's affair
        for loss in losses:
            guard.saw_loss(loss)
        decision = guard.before_update(self.step, norm=norm, clipped=clipped, scaled=overflow)
        tell_of_rollback(decision, self.monitor, guard)
        return decision

    def _end_update(self) -> None:
        factor = 1.0
        if self.guard is not None:
            self.guard.updated()
            factor = self.guard.lr_multiplier
        rates = self._state.learning_rates()
        self._journal.step_ended(self.step, applied=self._applied, lr=rates, norm=self._norm, factor=factor)
        self._state.note_place()

    def _gradient_norm(self, scale: Any) -> Any:
        return self._state.gradient_norm() if scale is None else self._state.unscaled_norm(scale)

    def _begin_step(self, *, training: bool) -> None:
        self._begun, self._begun_training, self._loss_seen = True, training, False
        self._journal.losses.forget_step()
        if self.guard is not None:
            self.guard.begin_step()

    def _check_first(self) -> None:
        first, self._first = self._first, False
        foreign = self._state.foreign_gradients() if first and self.guard is not None else 0
        if foreign:
            raise GuardUnsupportedError(
                f"gradients that its optimizer does not apply ({foreign} trainable parameters of the model are not in "
                "it): freeze them with requires_grad_(False), or train with one optimizer"
            )

    def _safely(self, action: Callable[[], _T], otherwise: _T, where: str) -> _T:
        def report(fault: Exception) -> _T:
            self._report(fault, where)
            return otherwise

        return attempt(action, report)


def spectral_monitor(options: ControllerOptions, model: Any, optimizer: Any) -> SpectralMonitor | None:
    """The monitor that the options ask for; None for none."""
    if not options.spectral_enabled:
        return None
    return SpectralMonitor(
        model,
        interval=options.spectral_interval,
        optimizer=optimizer,
        actions=options.spectral_actions,
        on_instability=options.spectral_on_instability,
    )
