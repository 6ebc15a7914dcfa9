"""What the callback does beside recording, where it is asked for: the guard and the spectral monitor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from gradience_emit.boundary import attempt
from gradience_emit.hf.config import GradienceCallbackConfig
from gradience_emit.hf.guarding import GuardUnsupportedError, TrainerGuard, sharding, why_not_guarded
from gradience_emit.hf.journal import Journal
from gradience_emit.spectral import SpectralMonitor
from gradience_emit.spectral.actions import observe, tell_of_rollback
from gradience_emit.summary import summary_path, write_summary

__all__ = ["Watch"]


class Watch:
    """The guard and the spectral monitor, between the callback's events and the run's journal.

    Args:
        options: the callback's options.
        journal: gives the run being written; None on a rank that does not write.
        report_fault: told about a fault.
    """

    def __init__(
        self,
        options: GradienceCallbackConfig,
        journal: Callable[[], Journal | None],
        report_fault: Callable[[Exception, str], None],
    ) -> None:
        self._options, self._journal, self._report = options, journal, report_fault
        self._guard: TrainerGuard | None = None
        self._monitor: SpectralMonitor | None = None
        self.stopped_because: str | None = None

    def begin(self, trainer: Any, args: Any, state: Any, event: Mapping[str, Any]) -> None:
        """Training begins.

        Raises:
            GuardUnsupportedError: this training cannot be guarded, and the guard was asked for.
        """
        self._guard, self._monitor, self.stopped_because = None, None, None
        if self._options.enable_guard:
            reason = why_not_guarded(trainer, args, event)
            if reason is None and self._options.spectral_actions and args.world_size > 1:
                reason = "spectral_actions on several ranks, whose readings may differ in their last digits"
            if reason is not None:
                raise GuardUnsupportedError(reason)
            options = self._options.guard_options()
            self._guard = attempt(lambda: TrainerGuard(options, trainer, event, self._writer, self._report), _refuse)
            self._guard.guard.begin(state.global_step)
        if self._options.spectral_enabled and self._journal() is not None:
            attempt(lambda: self._begin_monitor(trainer, event), lambda fault: self._report(fault, "the monitor"))

    def step_began(self) -> None:
        """A step's first forward pass is about to run."""
        if self._guard is not None:
            self._guard.guard.begin_step()

    def saw_loss(self, loss: Any) -> None:
        """A micro-batch was trained on."""
        if self._guard is not None:
            self._guard.guard.saw_loss(loss)

    def saw_norm(self, norm: Any) -> None:
        """The gradient norm of the step."""
        if self._guard is not None:
            self._guard.saw_norm(norm)

    def before_update(self, state: Any, control: Any) -> None:
        """The gradients are complete."""
        guard, journal = self._guard, self._journal()
        if guard is None:
            return
        decision = guard.before_update(state, control)
        tell_of_rollback(decision, self._monitor, guard.guard)
        if journal is not None:
            journal.lr_multiplier = guard.lr_multiplier  # of the row that the trainer logs for this step

    def updated(self) -> None:
        """The optimizer's step is done."""
        if self._guard is not None:
            self._guard.guard.updated()

    def step_ended(self, state: Any, control: Any) -> None:
        """The schedule has moved."""
        if self._guard is not None:
            self._guard.step_ended(state, control)
        if self._monitor is not None and self._monitor.due(state.global_step):
            self._observe(self._monitor, state, control)

    def end(self, state: Any, *, complete: bool = True) -> None:
        """Training is over; ``complete`` when it ended of itself."""
        guard, self._guard = self._guard, None
        monitor, self._monitor = self._monitor, None
        summary = None
        if guard is not None:
            summary = attempt(
                lambda: guard.finish(state, complete=complete), lambda fault: self._report(fault, "the guard's end")
            )
        self.stopped_because = None if guard is None else guard.stopped_because
        journal = self._journal()
        if journal is None or (guard is None and monitor is None):
            return
        telemetry = journal.recording.writer.path
        attempt(
            lambda: write_summary(
                summary_path(telemetry),
                run_id=journal.recording.writer.run_id,
                telemetry=telemetry.name,
                total_steps=state.global_step,
                final_loss=journal.last_loss,
                guard=None if summary is None else summary.to_dict(),
                spectral=None if monitor is None else monitor.final,
            ),
            lambda fault: self._report(fault, "writing summary.json"),
        )

    def _begin_monitor(self, trainer: Any, event: Mapping[str, Any]) -> None:
        sharded = sharding(trainer)
        if sharded is not None:
            self._writer().alert(
                severity="info",
                code="SPECTRAL_NOT_MEASURED",
                message=f"The spectral monitor does not support {sharded}.",
            )
            return
        options = self._options
        self._monitor = SpectralMonitor(
            event["model"],
            interval=options.spectral_interval,
            optimizer=event.get("optimizer"),
            actions=options.spectral_actions,
            on_instability=options.spectral_on_instability,
        )

    def _observe(self, monitor: SpectralMonitor, state: Any, control: Any) -> None:
        guard = self._guard if self._options.spectral_actions else None
        decision = observe(monitor, state.global_step, self._writer(), None if guard is None else guard.guard)
        if guard is not None:
            guard.obey(decision, control)

    def _writer(self) -> Any:
        journal = self._journal()
        return None if journal is None else journal.recording.writer


def _refuse(fault: Exception) -> NoReturn:
    raise GuardUnsupportedError(f"this training ({fault!r})") from fault
