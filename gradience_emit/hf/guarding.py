"""The guard in a Hugging Face Trainer: which of its events does what, and where it is refused.

==========================  ==========================================================
event of the trainer        what the guard does
==========================  ==========================================================
``on_step_begin``           notes the random numbers; the step's batches are fetched already
``training_step``           sees the loss of each micro-batch
``clip_grad_norm_``         sees the gradient norm before clipping
``on_pre_optimizer_step``   decides, and drops the gradient or restores a snapshot
``optimizer.step``          changes nothing where the gradient was dropped
``on_optimizer_step``       sets a lowered learning rate back to the schedule's
``lr_scheduler.step``
``on_step_end``             sets the schedule back where the update was dropped; checks a state that is about to be
                            saved, evaluated or returned
``on_train_end``            checks the final state; writes the summary
==========================  ==========================================================

All of it goes through public names of transformers and accelerate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from gradience_emit.boundary import attempt
from gradience_emit.guard.options import GuardOptions
from gradience_emit.guard.policy import Action, Decision
from gradience_emit.guard.record import GuardRecord, GuardSummary, GuardWriter
from gradience_emit.guard.recovery import Guard
from gradience_emit.guard.refusal import GuardUnsupportedError, unsupported
from gradience_emit.guard.state import TrainingState

__all__ = ["GuardUnsupportedError", "TrainerGuard", "sharding", "why_not_guarded"]

_IN_BACKWARD: Final = ("lomo", "adalomo")
_SHARDED: Final = (
    ("is_fsdp_enabled", "FSDP, where a rank holds only a part of the weights"),
    ("is_fsdp_xla_enabled", "FSDP on XLA, where a rank holds only a part of the weights"),
    ("is_deepspeed_enabled", "DeepSpeed, which holds weights, gradients and optimizer in an engine of its own"),
    ("is_tp_enabled", "tensor parallelism, where a rank holds only a part of the weights"),
)


def why_not_guarded(trainer: Any, args: Any, event: Mapping[str, Any]) -> str | None:
    """What about this training the guard does not support; None when it can be guarded.

    Args:
        trainer: the trainer; None when it was not found.
        args: its arguments.
        event: ``model``, ``optimizer`` and ``lr_scheduler``, as the trainer hands them to its callbacks.
    """
    model, optimizer, scheduler = event.get("model"), event.get("optimizer"), event.get("lr_scheduler")
    if trainer is None or model is None or optimizer is None:
        return "a training whose trainer, model or optimizer it cannot find"
    if (sharded := sharding(trainer)) is not None:
        return sharded
    named = str(getattr(args.optim, "value", args.optim)).lower()
    if named in _IN_BACKWARD or named.endswith("layerwise"):
        return f"the optimizer {named}, which updates the weights during the backward pass"
    return unsupported(model, optimizer, scheduler)


def sharding(trainer: Any) -> str | None:
    """How the trainer spreads the weights over ranks, so that none has them whole; None when it does not."""
    return next((reason for attribute, reason in _SHARDED if getattr(trainer, attribute, False)), None)


class TrainerGuard:
    """The guard of one training.

    Args:
        options: what the guard may do.
        trainer: the trainer.
        event: ``model``, ``optimizer`` and ``lr_scheduler``.
        writer: gives the writer of the run; None on a rank that does not write.
        report_fault: told about a fault of the guard's own.
    """

    def __init__(
        self,
        options: GuardOptions,
        trainer: Any,
        event: Mapping[str, Any],
        writer: Callable[[], GuardWriter | None],
        report_fault: Callable[[Exception, str], None],
    ) -> None:
        scaler = getattr(trainer.accelerator, "scaler", None)
        state = TrainingState(event["model"], event["optimizer"], event.get("lr_scheduler"), scaler)
        self.guard = Guard(options, state, GuardRecord(options, writer), report_fault)
        self._args, self._accelerator = trainer.args, trainer.accelerator
        self._scaled = scaler is not None and scaler.is_enabled()
        self._clipped = bool(trainer.args.max_grad_norm and trainer.args.max_grad_norm > 0)
        self._norm: Any = None
        self.stopped_because: str | None = None

    @property
    def lr_multiplier(self) -> float:
        """Factor on the learning rate."""
        return self.guard.lr_multiplier

    def saw_norm(self, norm: Any) -> None:
        """The trainer computed the gradient norm of this step."""
        self._norm = norm

    def before_update(self, state: Any, control: Any) -> Decision:
        """Decide on the step's update; a decision to stop is handed to the trainer."""
        norm, self._norm = self._norm, None
        if norm is None and self._scaled:
            # a norm of scaled gradients is none, and a scaler must have looked at them before they are dropped
            attempt(self._accelerator.unscale_gradients, lambda _: None)
        decision = self.guard.before_update(
            state.global_step + 1, norm=norm, clipped=self._clipped, scaled=self._scaled
        )
        self.obey(decision, control)
        return decision

    def step_ended(self, state: Any, control: Any) -> None:
        """Hold the schedule; look at the state where it is about to be saved, evaluated or returned."""
        self.guard.after_update()
        if _is_used(state, control):
            self.obey(self.guard.check(state.global_step), control)

    def finish(self, state: Any, *, complete: bool) -> GuardSummary:
        """The end of training."""
        replaced = self._args.load_best_model_at_end and state.best_model_checkpoint is not None
        if complete and not replaced:  # no snapshot over the best model, which is loaded by now
            self.guard.check(state.global_step)
        return self.guard.finish(state.global_step, complete=complete)

    def obey(self, decision: Decision, control: Any) -> None:
        """Stop the trainer where the decision says so."""
        if decision.action is Action.ABORT and decision.stops:
            self.stopped_because = decision.reason
            control.should_training_stop = True


def _is_used(state: Any, control: Any) -> bool:
    """Whether the state after this step is saved, evaluated or returned. The trainer needs all ranks for each of them.

    What it does at the end of an epoch it decides only then, so that the epoch's last step counts in any case.
    """
    wanted = control.should_save or control.should_evaluate or control.should_training_stop or control.should_epoch_stop
    return bool(wanted) or state.global_step >= state.max_steps or float(state.epoch or 0.0).is_integer()
