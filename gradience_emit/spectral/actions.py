"""Carries out what a sample wants, through the guard; only where the user turned actions on."""

from __future__ import annotations

from typing import Protocol

from gradience_emit.guard.policy import Action, Decision
from gradience_emit.spectral.monitor import SpectralMonitor
from gradience_emit.spectral.sample import SpectralSample, Wanted

__all__ = ["carry_out"]

_HALTED = "the spectral monitor reached INSTABILITY"


class _Guard(Protocol):
    def want_snapshot(self) -> None: ...

    def back_off(self) -> None: ...

    def roll_back(self, step: int) -> Decision: ...

    @property
    def restored_step(self) -> int | None: ...


def carry_out(sample: SpectralSample, monitor: SpectralMonitor, guard: _Guard) -> Decision:
    """Do what the sample wants: a snapshot, a lower learning rate beside it, a rollback, or a halt.

    A lower learning rate needs ``guard_lr_backoff``, and a rollback keeps to the guard's cooldown and window.

    Args:
        sample: the sample of the step that has just ended.
        monitor: told when the weights of an earlier step were put back.
        guard: the guard of the same training.

    Returns:
        The decision: `Action.ABORT` with ``stops`` for a halt, and whatever the guard decides about a rollback.
    """
    if sample.wanted in {Wanted.SNAPSHOT, Wanted.BACKOFF}:
        guard.want_snapshot()
    if sample.wanted is Wanted.BACKOFF:
        guard.back_off()
    if sample.wanted is Wanted.HALT:
        return Decision(Action.ABORT, _HALTED, stops=True)
    if sample.wanted is not Wanted.ROLLBACK:
        return Decision(Action.GO)
    decision = guard.roll_back(sample.step)
    if decision.action is Action.ROLLBACK and guard.restored_step is not None:
        monitor.restored(guard.restored_step)
    return decision
