"""Takes a sample, writes it, and carries out what it wants through the guard, where the user turned actions on."""

from __future__ import annotations

from typing import Protocol

from gradience_emit.emitter import TelemetryWriter
from gradience_emit.guard.options import GuardOptions
from gradience_emit.guard.policy import Action, Decision
from gradience_emit.spectral.monitor import SpectralMonitor
from gradience_emit.spectral.report import emit
from gradience_emit.spectral.sample import SpectralSample, Wanted

__all__ = ["observe", "tell_of_rollback"]

_HALTED = "the spectral monitor reached INSTABILITY"


class _Guard(Protocol):
    options: GuardOptions

    def want_snapshot(self) -> None: ...

    def back_off(self) -> None: ...

    def roll_back(self, step: int) -> Decision: ...

    @property
    def restored_step(self) -> int | None: ...


def observe(monitor: SpectralMonitor, step: int, writer: TelemetryWriter | None, guard: _Guard | None) -> Decision:
    """Measure after a step, write the sample, and do what it wants.

    That is a snapshot, a lower learning rate beside it, a rollback, or a halt. A lower learning rate needs
    ``guard_lr_backoff``, and a rollback keeps to the guard's cooldown and window. A guard that only observes does
    nothing.

    Args:
        monitor: the monitor; told when the weights of an earlier step were put back.
        step: the step that has just ended.
        writer: the run's writer; None on a rank that does not write.
        guard: the guard of the same training; None where nothing is to act.

    Returns:
        The decision: `Action.ABORT` with ``stops`` for a halt, and whatever the guard decides about a rollback.
    """
    sample = monitor.observe(step)
    if writer is not None:
        emit(writer, step, sample)
    if guard is None or guard.options.mode == "observe":
        return Decision(Action.GO)
    return _carry_out(sample, monitor, guard)


def _carry_out(sample: SpectralSample, monitor: SpectralMonitor, guard: _Guard) -> Decision:
    if sample.wanted in {Wanted.SNAPSHOT, Wanted.BACKOFF}:
        guard.want_snapshot()
    if sample.wanted is Wanted.BACKOFF:
        guard.back_off()
    if sample.wanted is Wanted.HALT:
        return Decision(Action.ABORT, _HALTED, stops=guard.options.on_abort == "stop")
    if sample.wanted is not Wanted.ROLLBACK:
        return Decision(Action.GO)
    decision = guard.roll_back(sample.step)
    tell_of_rollback(decision, monitor, guard)
    return decision


def tell_of_rollback(decision: Decision, monitor: SpectralMonitor | None, guard: _Guard) -> None:
    """After a rollback, let the monitor forget what it read on weights that are gone."""
    if decision.action is Action.ROLLBACK and monitor is not None and guard.restored_step is not None:
        monitor.restored(guard.restored_step)
