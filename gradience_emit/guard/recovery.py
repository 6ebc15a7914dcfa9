"""The guard itself: reads a step's signals, has them judged, and carries out what is decided.

One optimizer step, in order::

    guard.begin_step()              before the forward pass: random numbers and running statistics are noted
    guard.saw_loss(loss)            per micro-batch
    guard.before_update(step, ...)  gradients are complete: the decision, carried out
    (the optimizer's step)
    guard.updated()                 the learning rate is the schedule's again
    (the schedule's step)
    guard.after_update()            a schedule that moved with a dropped update is set back

A dropped update is one whose gradients are all None: the optimizer's step then changes nothing, and neither its moments
nor the schedule have seen the batch. The next forward pass draws the random numbers the dropped one had drawn.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

import torch

from gradience_emit.boundary import attempt
from gradience_emit.guard.agreement import agree
from gradience_emit.guard.options import GuardOptions
from gradience_emit.guard.policy import Action, Decision, Policy
from gradience_emit.guard.record import GuardRecord, GuardSummary
from gradience_emit.guard.snapshots import SnapshotRing
from gradience_emit.guard.state import Hold, Restorable, StepStart
from gradience_emit.guard.triggers import Judgement, Signals, Trigger, Triggers, Verdict

__all__ = ["Guard"]

_T = TypeVar("_T")
_GO: Final = Decision(Action.GO)
_FAILED: Final = "the guard itself failed"


class Guard:
    """Guards one training.

    A fault inside the guard never reaches the training: it is reported, and at the next decision the guard gives up, on
    all ranks together. A guard that gave up for another reason and lets training go on keeps a lowered learning rate.

    Args:
        options: what it may do.
        state: the training's state.
        record: where it writes down what it does.
        report_fault: told about a fault of the guard's own.

    Attributes:
        options: as given.
        record: as given.
        restored_step: optimizer steps done before the state that was restored last; None before a rollback.
    """

    def __init__(
        self,
        options: GuardOptions,
        state: Restorable[Any],
        record: GuardRecord,
        report_fault: Callable[[Exception, str], None],
    ) -> None:
        self.options, self.record = options, record
        self.restored_step: int | None = None
        self._state, self._report = state, report_fault
        self._acts = options.mode == "act"
        self._triggers, self._policy = Triggers(options), Policy(options)
        self._ring = SnapshotRing(state, options.ring_size, options.snapshot_every)
        self._start: StepStart | None = None
        self._loss_mark: Any = None
        self._loss: Any = None
        self._hold: Hold | None = None
        self._undo_lr: Callable[[], None] | None = None
        self._failed = self._snapshot_wanted = False
        self._seconds, self._steps = 0.0, 0

    @property
    def gave_up(self) -> bool:
        """Whether it has given up, and lets everything pass."""
        return self._policy.gave_up

    @property
    def lr_multiplier(self) -> float:
        """Factor on the learning rate; 1 while the guard only observes, and when it failed itself."""
        return self._policy.lr_multiplier if self._acts and not self._failed else 1.0

    @property
    def dropped_update(self) -> bool:
        """Whether the update under way is a dropped one."""
        return self._hold is not None

    def begin(self, step: int) -> None:
        """Training begins; ``step`` optimizer steps were done before."""
        self._safely(lambda: self.record.began(step, self._state.parts()), None, "writing down that it is on")

    def begin_step(self) -> None:
        """A step's first forward pass is about to run."""
        if not self.gave_up:
            began = time.perf_counter()
            self._start = self._safely(self._state.start, None, "noting the random numbers")
            self._seconds += time.perf_counter() - began

    def saw_loss(self, loss: Any) -> None:
        """The loss of a micro-batch: a tensor or a number."""
        if not self.gave_up:
            self._safely(lambda: self._mark_loss(loss), None, "seeing a loss")

    def _mark_loss(self, loss: Any) -> None:
        value: Any = loss
        if isinstance(value, torch.Tensor):
            value = value if value.numel() == 1 else value.detach().mean()
            value = value.item() if value.is_cpu else value.detach()  # on the CPU numbers are cheaper than tensors
        else:
            value = float(value)
        mark = value - value  # 0 when finite, NaN when not; marks add up
        self._loss, before = value, self._loss_mark
        if isinstance(mark, torch.Tensor) and isinstance(before, torch.Tensor):
            mark = mark.to(before.device)
        self._loss_mark = mark if before is None else before + mark

    def want_snapshot(self) -> None:
        """Take a snapshot at the next sound step, whatever the interval."""
        self._snapshot_wanted = True

    def back_off(self) -> None:
        """Lower the learning rate as after a rollback."""
        self._policy.back_off()

    def before_update(self, step: int, *, norm: Any = None, clipped: bool = False, scaled: bool = False) -> Decision:
        """Decide on the update that is about to be applied, and carry the decision out. The only wait for a device.

        Args:
            step: the step's number, counted from 1 through skips and rollbacks.
            norm: gradient norm before clipping, a tensor or a number; computed here when None.
            clipped: whether the gradient is clipped.
            scaled: whether a gradient scaler is in use.

        Returns:
            The decision. Unless its action is `Action.GO`, there is no gradient left to apply.
        """
        self.updated()  # a loop that does not say so, or a step that broke off
        if self.gave_up:
            self._safely(self._lower_lr, None, "lowering the learning rate")
            return _GO
        began = time.perf_counter()
        judged = self._safely(lambda: self._examine(step, norm, clipped, scaled), None, "judging a step")
        decision = self._decide(step, judged)
        self._loss_mark = None
        self._seconds, self._steps = self._seconds + time.perf_counter() - began, self._steps + 1
        return decision

    def check(self, step: int) -> Decision:
        """Check the state between two steps, before it is saved or at the end, and restore a damaged one.

        A cooldown does not keep it damaged: what is saved is used. Like `before_update`, every rank must call it at
        the same steps.
        """
        if self.gave_up:
            return _GO
        judged = self._safely(self._examine_state, None, "checking the state")
        return self._decide_between(step, judged)

    def roll_back(self, step: int) -> Decision:
        """Restore a snapshot because somebody else asks for it, within the same limits; between two steps.

        In a cooldown nothing happens. Every rank must call it at the same steps.
        """
        return _GO if self.gave_up else self._decide_between(step, Judgement(Verdict.RESTORE, Trigger.SPECTRAL))

    def updated(self) -> None:
        """The optimizer's step is done; the schedule has not moved yet."""
        undo, self._undo_lr = self._undo_lr, None
        if undo is not None:
            self._safely(undo, None, "setting the learning rate back")

    def after_update(self) -> None:
        """The schedule has moved, if it moves with every update."""
        hold, self._hold = self._hold, None
        if hold is not None:
            self._safely(lambda: self._state.release(hold), None, "holding the schedule")

    def forget_hold(self) -> None:
        """The schedule does not move with the updates: what it does next is meant."""
        self._hold = None

    def finish(self, step: int, *, complete: bool) -> GuardSummary:
        """The end of training: the summary, which is written too.

        Args:
            step: the last step.
            complete: whether training ended by itself; a run that broke off is not looked at any more.
        """
        record = self.record
        sound = self._safely(self._state.is_finite, None, "checking the final state") if complete else None
        self._safely(self._ring.clear, None, "freeing the snapshots")
        if sound is None:
            integrity = "not_checked"
        elif not sound:
            integrity = "corrupted"
        elif self.gave_up:
            integrity = "aborted"
        else:
            integrity = "recovered" if self._acts and record.skips + record.rollbacks else "ok"
        summary = GuardSummary(
            total_rollbacks=record.rollbacks,
            total_skips=record.skips,
            total_recoveries=record.recoveries,
            total_snapshots=record.snapshots,
            total_triggers=record.triggers,
            integrity_status=integrity,
            gave_up=record.gave_up or (_FAILED if self._failed else None),
            lr_multiplier=self.lr_multiplier,
            ms_per_step=round(1e3 * self._seconds / self._steps, 4) if self._steps else None,
            mode=self.options.mode,
        )
        self._safely(lambda: record.ended(step, summary), None, "writing down the summary")
        return summary

    def _examine(self, step: int, norm: Any, clipped: bool, scaled: bool) -> Judgement:
        signals = self._signals(norm, clipped, scaled)
        judged = self._triggers.judge(signals)
        bad = judged.verdict is Verdict.SKIP
        due = judged.verdict <= Verdict.WARN and self._acts and self._start is not None and self._is_due(step)
        sound = self._state.is_finite() if bad else self._ring.prepare() if due else True
        return judged if sound else Judgement(Verdict.RESTORE, Trigger.NONFINITE_STATE, signals.norm)

    def _is_due(self, step: int) -> bool:
        return self._snapshot_wanted or self._ring.is_due(step - 1)

    def _examine_state(self) -> Judgement:
        if self._state.is_finite():
            return Judgement(Verdict.GOOD)
        return Judgement(Verdict.RESTORE, Trigger.NONFINITE_STATE)

    def _signals(self, norm: Any, clipped: bool, scaled: bool) -> Signals:
        """Loss and norm as numbers, in one transfer where they lie on one device."""
        norm = self._state.gradient_norm() if norm is None else norm
        mark = self._loss_mark
        if isinstance(norm, torch.Tensor) and isinstance(mark, torch.Tensor) and mark.device == norm.device:
            norm = norm.detach().reshape(())
            both: Any = torch.stack([mark.to(norm.dtype), norm])
            values: list[float] = both.tolist()
            return Signals(not math.isnan(values[0]), values[1], clipped, scaled)
        finite = None if mark is None else not math.isnan(float(mark))
        return Signals(finite, None if norm is None else float(norm), clipped, scaled)

    def _decide(self, step: int, judged: Judgement | None, *, between: bool = False) -> Decision:
        if judged is None or self._failed:
            judged = Judgement(Verdict.FAILED, Trigger.GUARD_FAULT)
        own = judged
        failed: tuple[Verdict, Trigger | None] = Verdict.FAILED, Trigger.GUARD_FAULT
        worst, trigger = self._safely(lambda: agree(own.verdict, own.trigger), failed, "agreeing with the other ranks")
        if worst is not judged.verdict or trigger is not judged.trigger:
            judged = replace(judged, verdict=worst, trigger=trigger, limit=None)
        self._failed = self._failed or worst is Verdict.FAILED
        if between and worst is Verdict.GOOD:
            return _GO
        restorable = not self._acts or len(self._ring) > 0
        decision = self._safely(
            lambda: self._policy.decide(step, worst, can_restore=restorable),
            Decision(Action.ABORT, _FAILED) if worst is Verdict.FAILED else _GO,
            "deciding",
        )
        # only now, when all ranks know: one that gave up alone would leave the others waiting for its verdict
        self._policy.gave_up = self._policy.gave_up or worst is Verdict.FAILED
        if between and decision.action is Action.SKIP:  # there is no update to skip
            if trigger is Trigger.SPECTRAL:
                return _GO
            decision = Decision(Action.ROLLBACK, "in a cooldown, but the state is about to be used")
        self._safely(lambda: self._carry_out(step, decision, judged), None, "carrying out a decision")
        return decision if self._acts or worst is Verdict.FAILED else _GO

    def _decide_between(self, step: int, judged: Judgement | None) -> Decision:
        decision = self._decide(step, judged, between=True)
        self.after_update()
        return decision

    def _carry_out(self, step: int, decision: Decision, judged: Judgement) -> None:
        if decision.action is Action.GO:
            self._let_go(step, judged)
            return
        restored = self._undo(decision, judged) if self._acts and judged.verdict is not Verdict.FAILED else {}
        self.record.acted(
            step,
            decision,
            judged,
            loss=self._last_loss(),
            restored=restored,
            lr_multiplier=self.lr_multiplier,
            bad_in_a_row=self._policy.bad_in_a_row,
        )
        if decision.action is Action.ABORT:
            self._ring.clear()

    def _let_go(self, step: int, judged: Judgement) -> None:
        sound = judged.verdict <= Verdict.WARN
        if sound:
            self.record.went_on()
        if judged.verdict is Verdict.WARN:
            self.record.noticed(step, judged, self._last_loss())
        if not self._acts:
            return
        if sound and self._start is not None and self._ring.is_prepared:
            self._ring.keep(step - 1, self._start)
            self._snapshot_wanted = False
            self.record.took_snapshot(step - 1, len(self._ring), self._ring.memory)
        self._lower_lr()  # after the snapshot, which holds the schedule's own rate

    def _lower_lr(self) -> None:
        if self.lr_multiplier != 1.0:
            self._undo_lr = self._state.scale_lr(self.lr_multiplier)

    def _undo(self, decision: Decision, judged: Judgement) -> dict[str, Any]:
        """Drop the gradient, and restore what the decision asks for; what was restored, for the record."""
        self._state.drop_gradients()
        self._ring.drop()
        restores = decision.action is Action.ROLLBACK or judged.verdict is Verdict.RESTORE
        if restores and decision.action is not Action.SKIP and len(self._ring):
            snapshot = self._ring.restore(self.options.steps_back, prune=self.options.prune_newer_on_rollback)
            self._hold, self.restored_step = self._state.hold(), snapshot.step
            parts = list(self._state.parts())
            return {"restored_step": snapshot.step, "restored": parts, "optimizer_restored": "optimizer" in parts}
        if self._start is not None:
            self._state.restart(self._start)
        self._hold = self._state.hold()
        return {}

    def _last_loss(self) -> float | None:
        return None if self._loss is None else attempt(lambda: float(self._loss), lambda _: None)

    def _safely(self, action: Callable[[], _T], otherwise: _T, where: str) -> _T:
        def report(fault: Exception) -> _T:
            self._failed = True  # all ranks learn of it at the next decision, and give up together
            self._report(fault, f"the guard, {where}")
            return otherwise

        return attempt(action, report)
