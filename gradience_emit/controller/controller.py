"""`GradienceController`: the guard and telemetry in a training loop of one's own."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from gradience_emit.boundary import attempt
from gradience_emit.controller.applied import AppliedUpdates
from gradience_emit.controller.description import describe_run, surroundings
from gradience_emit.controller.hooks import ForwardHooks, OptimizerHooks, innermost
from gradience_emit.controller.journal import Journal
from gradience_emit.controller.options import ControllerOptions, read_options
from gradience_emit.controller.schedule import LoopState
from gradience_emit.controller.updates import GuardAbortError, Updates, spectral_monitor
from gradience_emit.controller.user_state import UserState
from gradience_emit.emitter import describe_exception
from gradience_emit.guard.agreement import is_distributed
from gradience_emit.guard.policy import Action
from gradience_emit.guard.refusal import GuardUnsupportedError, unsupported

__all__ = ["GradienceController"]

_ENDED: Final = "the run has ended: make a controller for each run"
_logger = logging.getLogger("gradience_emit")


class GradienceController:
    """Guards a training loop of one's own, and writes ``run.jsonl`` and ``summary.json``; experimental.

    Three ways to use it. Around a loop that stays as it is::

        controller = GradienceController("out", model=model, optimizer=optimizer, scheduler=scheduler)
        with controller.watch():
            ...  # the loop

    By calls of its own, where the loop is to decide itself::

        if controller.before_step(loss, grad_norm):
            optimizer.step()
            scheduler.step()
        optimizer.zero_grad()
        controller.after_step()

    Or told after each step, with functions that save and restore, where model and optimizer cannot be given::

        controller = GradienceController("out").initialize(model, save_fn, load_fn, get_lr, set_lr)
        ...
        if not controller.step(step, loss):
            break

    In the first two a bad update is dropped before it is applied; in the third it is applied already, and what it
    damaged is rolled back. The last two end with `finalize`.

    A fault in here never reaches the loop: it is counted and reported once. In distributed training only rank 0 writes,
    and the guard decides alike on all ranks.

    Args:
        out_dir: the folder that is written to.
        model: the model as the loop calls it, its wrapper for data parallelism included. Its forward pass gets a hook,
            which notes the random numbers before each step.
        optimizer: its optimizer: one, whose ``step`` takes no closure.
        scheduler: its learning-rate schedule; None without one.
        scaler: its gradient scaler; None without one. An optimizer prepared by accelerate knows it.
        **options: see `ControllerOptions`, and `GuardOptions` with ``guard_`` before each name; both spellings of the
            callback's options are understood.

    Raises:
        TypeError: an unknown option (the message names the nearest known one), a model without its optimizer, or
            something that is no optimizer.
        ValueError: an option out of its range.
        GuardUnsupportedError: this training cannot be guarded, and the guard is on.
    """

    def __init__(
        self,
        out_dir: str | os.PathLike[str] | None = None,
        model: Any = None,
        optimizer: Any = None,
        scheduler: Any = None,
        scaler: Any = None,
        **options: Any,
    ) -> None:
        self.options: ControllerOptions = read_options({**({} if out_dir is None else {"out_dir": out_dir}), **options})
        self._faults = 0
        self._summary: dict[str, Any] | None = None
        self._journal = Journal(self.options, self.report_fault)
        self._running: Updates | AppliedUpdates | None = None
        self._model, self._scheduler = model, scheduler
        self._updates: Updates | None = None
        self._applied: AppliedUpdates | None = None
        self._forward: ForwardHooks | None = None
        self._post_hook: Any = None
        if (model is None) is not (optimizer is None):
            raise TypeError("GradienceController needs model and optimizer together, or neither and then initialize()")
        if model is not None:
            self._follow(model, optimizer, scheduler, scaler)

    @property
    def path(self) -> Path | None:
        """The segment being written; None before the run has begun, and on ranks that do not write."""
        return None if self._journal.writer is None else self._journal.writer.path

    @property
    def run_id(self) -> str | None:
        """The identifier of the run being written; None as for `path`."""
        return None if self._journal.writer is None else self._journal.writer.run_id

    @property
    def summary(self) -> dict[str, Any] | None:
        """What `finalize` returned; None before the end."""
        return self._summary

    def report_fault(self, fault: Exception, where: str) -> None:
        """Count a fault in here; the first is logged with its traceback."""
        self._faults += 1
        if self._journal.writer is not None:
            self._journal.writer.report_fault(fault, where)
        elif self._faults == 1:
            _logger.warning("telemetry fault in %s; training goes on (reported once)", where, exc_info=fault)

    # a loop whose optimizer is known

    @contextmanager
    def watch(self, *, clipped: bool = False) -> Generator[Self]:
        """Guard the loop in the ``with`` block, which stays as it is; leaving the block ends the run.

        The optimizer's step hooks see each update before it is applied. A forward pass of the model that records
        gradients begins a step; a loss that it returns (``output.loss``) is seen, any other is told by `saw_loss`.

        Args:
            clipped: whether the loop clips its gradients: a finite spike then only warns. What the optimizer's hook
                sees is already clipped.

        Raises:
            GuardAbortError: from the optimizer's step, when the guard gave up and ``guard_on_abort`` is ``"stop"``. It
                leaves the block, with ``run_end`` written as ``aborted``.
            GuardUnsupportedError: from the optimizer's first step, where only then it shows that the guard cannot work.
            RuntimeError: no model was given, or the run has ended.
        """
        updates = self._begin_updates("watch()")
        hooks = OptimizerHooks(self._optimizer, self._scaler, updates, self._halt, clipped=clipped)
        try:
            yield self
        except BaseException as error:
            hooks.remove()
            self._end(error)
            raise
        hooks.remove()
        self._end(None)

    def before_step(self, loss: Any = None, grad_norm: Any = None, *, clipped: bool = False) -> bool:
        """Decide on the update that is about to be applied; call it where the gradients are complete.

        With a gradient scaler that is after ``scaler.unscale_``, and ``scaler.update`` belongs after the step whatever
        the answer. A gradient that overflowed in half precision is left to the scaler: the answer is True.

        Args:
            loss: the loss of the step, a tensor or a number; None where the model returned it, or it is unknown.
            grad_norm: the gradient norm before clipping; computed here when None, and then it is the clipped one.
            clipped: whether the gradient is clipped: a finite spike then only warns.

        Returns:
            True: apply it. False: do not; there are no gradients left.

        Raises:
            GuardAbortError: the guard gave up, and ``guard_on_abort`` is ``"stop"``.
            GuardUnsupportedError: the guard cannot work here.
            RuntimeError: no model was given, or the run has ended.
        """
        updates = self._begin_updates("before_step()")
        if self._post_hook is None and hasattr(self._optimizer, "register_step_post_hook"):
            self._post_hook = self._optimizer.register_step_post_hook(self._stepped)
        if loss is not None:
            updates.replace_loss(loss)
        decision = updates.before_update(grad_norm, clipped=clipped, overflow=None if self._scaler else False)
        self._halt()
        return decision.action is Action.GO

    def after_step(self) -> None:
        """The step is over, whether its update was applied or not; call it last, when the schedule has moved."""
        if self._updates is not None and self._running is not None:
            self._updates.updated()
            attempt(self._updates.step_over, lambda fault: self.report_fault(fault, "the end of a step"))
            self._halt()

    def saw_loss(self, loss: Any) -> None:
        """Tell the loss of a micro-batch, inside `watch`, of a model that does not return it."""
        if self._updates is not None:
            self._updates.saw_loss(loss)

    # a loop that tells of its steps afterwards

    def initialize(
        self,
        model: Any,
        save_fn: Callable[[], Any],
        load_fn: Callable[[Any], None],
        get_lr: Callable[[], float] | None = None,
        set_lr: Callable[[float], None] | None = None,
        *,
        clipped: bool = False,
    ) -> Self:
        """Begin a run whose state is saved and restored by functions of the loop's own; the state now is saved.

        Args:
            model: the model, whose trainable weights, gradients and running statistics are looked at.
            save_fn: returns a deep copy of all that is to be restored: the weights, and the optimizer's state too. A
                rollback of the weights alone leaves the optimizer's moments poisoned, and the next update with them.
                Schedule and scaler belong in it where there are any. Random numbers are restored in any case.
            load_fn: restores what ``save_fn`` returned, any number of times.
            get_lr: the learning rate; None when unknown, and then it is not lowered.
            set_lr: sets it, so that it lasts: a schedule that computes the next rate from a base of its own undoes it.
            clipped: whether the loop clips its gradients: a finite spike then only warns.

        Returns:
            The controller.

        Raises:
            ValueError: ``save_fn`` returns the live weights instead of a copy.
            GuardUnsupportedError: the model cannot be guarded.
            RuntimeError: model and optimizer were given already, or the run has begun.
        """
        if self._updates is not None or self._running is not None:
            raise RuntimeError("initialize() is for a controller without model and optimizer, and once")
        options = self.options
        state = UserState(model, save_fn, load_fn, get_lr, set_lr)
        if options.enable_guard:
            if not state.parameters:
                raise GuardUnsupportedError("a model without a trainable parameter")
            self._refuse_actions_on_ranks()
            state.refuse_live_tensors()
        lr = attempt(state.learning_rate, lambda fault: self.report_fault(fault, "get_lr"))
        self._open(model, None, None, lr)
        monitor = self._monitor(model, None)
        running = AppliedUpdates(options, state, self._journal, monitor, self.report_fault, clipped=clipped)
        self._running = self._applied = running
        running.begin()
        return self

    def step(self, step: int, loss: Any = None, model: Any = None) -> bool:
        """Tell that an optimizer step is over; call it once after each ``optimizer.step()``.

        Non-finite weights are rolled back. So is an unclipped spike of the gradient, as long as the gradients are still
        there: call it before ``zero_grad``. A non-finite loss over finite weights is noted.

        Args:
            step: its number, counted on through rollbacks.
            loss: its loss, a tensor or a number; None when unknown.
            model: not needed: it is the model given to `initialize`.

        Returns:
            False when training is to stop: the guard gave up, and ``guard_on_abort`` is ``"stop"``.

        Raises:
            RuntimeError: `initialize` was not called, or the run has ended.
        """
        del model
        if self._summary is not None:
            raise RuntimeError(_ENDED)
        if self._applied is None:
            raise RuntimeError("step() needs initialize() first")
        return self._applied.step_over(step, loss)

    # every loop

    def eval(self, split: str, metrics: Mapping[str, Any]) -> None:
        """Write an evaluation of ``split`` (``train``, ``val``, ``test`` or a name of yours) at the current step."""
        if self._journal.writer is not None and self._running is not None:
            self._journal.writer.eval(self._running.step, split=split, metrics=metrics)

    def check(self) -> bool:
        """Look at the state between two steps, before it is saved, and restore a damaged one; all ranks together.

        Returns:
            Whether the state was sound. After a rollback it is again.
        """
        return self._running is None or self._running.check().action is Action.GO

    def finalize(self) -> dict[str, Any]:
        """End the run: check the final state, write ``run_end`` and ``summary.json``. A second call changes nothing.

        Returns:
            The summary: ``run_id``, ``telemetry``, ``total_steps``, ``final_loss``, ``guard``, ``spectral``.
        """
        return self._end(None)

    def _follow(self, model: Any, optimizer: Any, scheduler: Any, scaler: Any) -> None:
        if self.options.enable_guard:
            reason = unsupported(model, optimizer, scheduler)
            if reason is not None:
                raise GuardUnsupportedError(reason)
        if not hasattr(optimizer, "param_groups"):
            raise TypeError(
                f"GradienceController takes one optimizer with param_groups, not {type(optimizer).__name__}"
            )
        self._optimizer = innermost(optimizer)
        scaler = getattr(optimizer, "scaler", None) if scaler is None else scaler
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None
        state = LoopState(model, self._optimizer, scheduler, self._scaler)
        self._updates = Updates(self.options, state, self._journal, self.report_fault)
        self._forward = ForwardHooks(model, self._updates, self._halt, self.report_fault)

    def _begin_updates(self, what: str) -> Updates:
        """The updates of a known optimizer; the run begins with the first call."""
        if self._updates is None:
            raise RuntimeError(f"{what} needs a controller made with model= and optimizer=")
        if self._summary is not None:
            raise RuntimeError(_ENDED)
        if self._running is None:
            if self.options.enable_guard:
                self._refuse_actions_on_ranks()
            self._open(self._model, self._optimizer, self._scheduler, None)
            self._updates.monitor = self._monitor(self._model, self._optimizer)
            self._running = self._updates
            self._updates.begin()
        return self._updates

    def _stepped(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        del optimizer, args, kwargs
        if self._updates is not None:
            self._updates.updated()

    def _open(self, model: Any, optimizer: Any, scheduler: Any, lr: float | None) -> None:
        def failed(fault: Exception) -> None:
            self.report_fault(fault, "the beginning of the run")

        attempt(self._journal.open, failed)
        config = describe_run(self.options, model, optimizer, scheduler, lr=lr, on_fault=failed)
        attempt(lambda: self._journal.begin(config, surroundings(self.options)), failed)

    def _monitor(self, model: Any, optimizer: Any) -> Any:
        """The spectral monitor, on the rank that writes."""
        if self._journal.writer is None:
            return None
        return attempt(
            lambda: spectral_monitor(self.options, model, optimizer),
            lambda fault: self.report_fault(fault, "the spectral monitor"),
        )

    def _refuse_actions_on_ranks(self) -> None:
        if self.options.spectral_actions and is_distributed():
            raise GuardUnsupportedError(
                "spectral_actions on several ranks, whose readings may differ in the last digits"
            )

    def _halt(self) -> None:
        """End the loop when that was decided, once.

        Raises:
            GuardAbortError: it was.
        """
        updates = self._updates
        if updates is not None and updates.halted is not None and self._summary is None:
            raise GuardAbortError(updates.step, updates.halted.reason)

    def _end(self, error: BaseException | None) -> dict[str, Any]:
        if self._summary is not None:
            return self._summary
        for handle in (self._forward, self._post_hook):
            if handle is not None:
                handle.remove()
        running = self._running
        if running is None:
            raise RuntimeError("the run has not begun: there is nothing to finalize")
        halted = running.halted
        if halted is not None:
            status, reason = "aborted", f"stopped by the guard ({halted.reason}) at step {running.step}"
        elif error is not None:
            end = describe_exception(error)
            status, reason = end["status"], end["reason"]
        else:
            status, reason = "ok", None
        complete = error is None or isinstance(error, GuardAbortError)
        guard = attempt(lambda: running.finish(complete=complete), lambda fault: self.report_fault(fault, "the end"))
        self._summary = self._journal.end(
            running.step,
            status,
            reason,
            None if guard is None else guard.to_dict(),
            None if running.monitor is None else running.monitor.final,
        )
        return self._summary
