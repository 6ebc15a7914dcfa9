"""The guard around a plain loop: whatever breaks and whenever, what is left is a run on the batches it kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradience_emit.guard import Action, GuardOptions, Trigger, Verdict
from gradience_emit.guard.record import GuardRecord
from gradience_emit.guard.recovery import Guard
from gradience_emit.guard.state import TrainingState

STEPS = 14


class Written:
    """A writer that keeps the acts and the snapshots."""

    def __init__(self) -> None:
        self.acts: list[tuple[int, str, dict[str, Any]]] = []

    def alert(self, **fields: Any) -> None:
        """Nothing."""

    def metrics(self, step: int, *, kind: str, metrics: Mapping[str, Any]) -> None:
        """Keep them."""
        assert kind == "guard"
        self.acts.append((step, str(metrics["action"]), dict(metrics)))

    def last(self, action: str) -> dict[str, Any]:
        """The last act of a kind."""
        return [metrics for _, name, metrics in self.acts if name == action][-1]


class Loop:
    """A training with dropout, running statistics, momentum of both kinds and a schedule."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        layers = (torch.nn.Linear(6, 8), torch.nn.Dropout(0.3), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1))
        self.model = torch.nn.Sequential(*layers)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1 - step / 40)
        generator = torch.Generator().manual_seed(1)
        self.batches = list(torch.randn(STEPS, 10, 6, generator=generator))
        self.loss: Any = None

    def backward(self, batch: int, *, factor: float = 1.0) -> None:
        """Loss and gradients of one batch, counted from 1."""
        self.loss = self.model(self.batches[batch - 1]).square().mean() * factor
        self.loss.backward()

    def update(self) -> None:
        """The optimizer's step and the schedule's."""
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()

    def state(self) -> dict[str, Any]:
        """Every bit of it."""
        found: dict[str, Any] = dict(self.model.state_dict())
        for number, entry in self.optimizer.state_dict()["state"].items():
            found |= {f"{number} {name}": value for name, value in entry.items()}
        rate = torch.tensor(self.optimizer.param_groups[0]["lr"], dtype=torch.float64)
        found |= {"rate": rate, "epoch": torch.tensor(self.schedule.last_epoch), "random": torch.get_rng_state()}
        return copy.deepcopy(found)

    def hurt(self, fault: str) -> None:
        """Break something before the forward pass."""
        weight = self.model[0].weight
        entry = self.optimizer.state.get(weight, {})
        if fault == "nan-weights":
            weight.detach()[0, 0] = math.nan
        elif fault == "nan-moments" and entry:
            entry["exp_avg"][0, 0] = math.nan
        elif fault == "infinite-moments" and entry:
            entry["exp_avg_sq"][0, 0] = math.inf


class Guarded:
    """The loop with a guard, and beside it a list of the batches that its state has seen."""

    def __init__(self, options: GuardOptions) -> None:
        self.loop, self.written = Loop(), Written()
        self.faults: list[tuple[Exception, str]] = []
        state = TrainingState(self.loop.model, self.loop.optimizer, self.loop.schedule)
        record = GuardRecord(options, lambda: self.written)
        self.guard = Guard(options, state, record, lambda fault, where: self.faults.append((fault, where)))
        self.guard.begin(0)
        self.seen: list[tuple[int, float]] = []
        self.seen_at: dict[int, list[tuple[int, float]]] = {}
        self.ended = False

    def step(self, number: int, fault: str | None = None) -> None:
        """One step of the loop, with a fault or without."""
        loop, guard = self.loop, self.guard
        loop.hurt(fault or "")
        guard.begin_step()
        factor = {"nan-loss": math.nan, "explosion": 1e9}.get(fault or "", 1.0)
        loop.backward(number, factor=factor)
        if fault == "nan-gradient":
            loop.model[3].weight.grad[0, 0] = math.nan
        guard.saw_loss(loop.loss)
        snapshots = self.guard.record.snapshots
        decision = guard.before_update(number)
        if self.guard.record.snapshots > snapshots:
            self.seen_at[number - 1] = list(self.seen)
        assert guard.dropped_update == (decision.action is not Action.GO)
        self._followed(number, factor, decision)
        loop.optimizer.step()
        guard.updated()
        loop.schedule.step()
        guard.after_update()
        loop.optimizer.zero_grad()

    def check(self, number: int) -> None:
        """Look at the state between two steps."""
        decision = self.guard.check(number)
        if decision.action is not Action.GO:
            self._followed(number, 1.0, decision)

    def _followed(self, number: int, factor: float, decision: Any) -> None:
        self.ended = decision.stops
        if decision.action is Action.GO:
            self.seen.append((number, factor))  # two explosions on end are the scale of a run that has just begun
        elif "restored_step" in self.written.last(str(decision.action)):
            self.seen = list(self.seen_at[self.written.last(str(decision.action))["restored_step"]])


def run(faults: Mapping[int, str], *, checks: Sequence[int] = (), **options: Any) -> Guarded:
    """A guarded run over all batches, or until the guard stops it."""
    guarded = Guarded(GuardOptions(**options))
    for number in range(1, STEPS + 1):
        guarded.step(number, faults.get(number))
        if not guarded.ended and number in {*checks, STEPS}:
            guarded.check(number)
        if guarded.ended:
            break
    assert guarded.faults == []
    return guarded


def plain(batches: Iterable[tuple[int, float]]) -> Loop:
    """The same training, without a guard, on some of the batches, each with the factor on its loss."""
    loop = Loop()
    for number, factor in batches:
        loop.backward(number, factor=factor)
        loop.update()
    return loop


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Equal bit for bit."""
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


FAULTS = ("nan-loss", "nan-gradient", "explosion", "nan-weights", "nan-moments", "infinite-moments")


HISTORIES: Any = st.fixed_dictionaries(
    {
        "faults": st.dictionaries(st.integers(1, STEPS), st.sampled_from(FAULTS), max_size=5),
        "checks": st.sets(st.integers(1, STEPS), max_size=2).map(sorted),
        "snapshot_every": st.integers(1, 6),
        "ring_size": st.integers(1, 4),
        "steps_back": st.integers(1, 3),
        "prune_newer_on_rollback": st.booleans(),
        "cooldown_steps": st.integers(0, 5),
        "max_rollbacks": st.integers(1, 4),
        "max_skips": st.integers(3, 20),
    }
)


def assert_nothing_is_left_of_what_was_dropped(history: dict[str, Any]) -> None:
    """The guarded run is the plain one on the batches it kept, unless it broke before there was a snapshot."""
    guarded = run(**history)
    summary = guarded.guard.finish(STEPS, complete=True)
    if "there is no snapshot" in (summary.gave_up or ""):
        assert summary.integrity_status == "corrupted"
        return
    assert summary.integrity_status != "corrupted"
    assert_same(guarded.loop.state(), plain(guarded.seen).state())


@settings(max_examples=60)
@given(HISTORIES)
def test_what_is_left_is_a_run_on_the_batches_it_kept(history: dict[str, Any]) -> None:
    """Given any faults at any steps under any options, when the run ends, then it is the plain run on what it kept."""
    assert_nothing_is_left_of_what_was_dropped(history)


@pytest.mark.soak
@settings(max_examples=3000)
@given(HISTORIES)
def test_what_is_left_is_that_run_in_three_thousand_histories(history: dict[str, Any]) -> None:
    """Given three thousand histories of faults, when each run ends, then it is the plain run on what it kept."""
    assert_nothing_is_left_of_what_was_dropped(history)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", [2, 9])
def test_each_fault_alone_is_undone(fault: str, step: int) -> None:
    """Given one fault, when the run ends, then its batch is not among those kept, and the state is that of the rest."""
    guarded = run({step: fault}, snapshot_every=1)
    assert step not in dict(guarded.seen)
    assert len(guarded.seen) >= STEPS - 3
    assert_same(guarded.loop.state(), plain(guarded.seen).state())


def test_without_a_fault_the_guard_changes_nothing() -> None:
    """Given no fault, when a guarded run ends, then every bit is that of the plain one, random numbers included."""
    guarded = run({}, checks=(3, 7), snapshot_every=1)
    assert guarded.seen == [(number, 1.0) for number in range(1, STEPS + 1)]
    assert_same(guarded.loop.state(), plain(guarded.seen).state())
    summary = guarded.guard.finish(STEPS, complete=True)
    assert (summary.integrity_status, summary.total_snapshots) == ("ok", STEPS)
    assert summary.ms_per_step is not None
    assert summary.ms_per_step > 0


def test_the_loop_may_forget_to_say_that_the_update_is_over() -> None:
    """Given a lowered rate and a loop that never calls updated(), when steps follow, then it is not lowered twice."""
    guarded = run({}, snapshot_every=1, lr_backoff=0.5)
    guarded.guard.back_off()
    group = guarded.loop.optimizer.param_groups[0]
    planned = group["lr"]
    for number in range(1, 4):
        guarded.guard.begin_step()
        guarded.loop.backward(number)
        guarded.guard.before_update(STEPS + number)
        assert group["lr"] == planned * 0.5
        guarded.loop.optimizer.zero_grad()
    guarded.guard.updated()
    assert group["lr"] == planned
    assert guarded.guard.lr_multiplier == 0.5


def test_a_guard_that_gave_up_keeps_a_lowered_rate() -> None:
    """Given a lowered rate and on_abort="continue", when the guard gives up, then updates stay at the lower rate."""
    faults = {4: "nan-weights", 6: "nan-loss"}
    options = {"snapshot_every": 1, "lr_backoff": 0.5, "max_skips": 1, "on_abort": "continue"}
    guarded = Guarded(GuardOptions(**options))
    for number in range(1, 4):
        guarded.step(number)
    guarded.guard.back_off()
    for number in range(4, 6):
        guarded.step(number, faults.get(number))
    assert guarded.guard.gave_up
    guarded.guard.begin_step()
    guarded.loop.backward(6)
    planned = guarded.loop.optimizer.param_groups[0]["lr"]
    assert guarded.guard.before_update(6).action is Action.GO
    assert guarded.loop.optimizer.param_groups[0]["lr"] == planned * guarded.guard.lr_multiplier == planned * 0.5


def test_a_rollback_on_request_is_one_of_the_guards_own() -> None:
    """Given a request between two steps, when a snapshot is restored, then the run is that up to the snapshot."""
    guarded = Guarded(GuardOptions(snapshot_every=3, cooldown_steps=5))
    for number in range(1, 9):
        guarded.step(number)
    before = guarded.loop.state()
    assert guarded.guard.roll_back(8).action is Action.ROLLBACK
    assert guarded.written.last("rollback")["trigger"] == str(Trigger.SPECTRAL)
    assert_same(guarded.loop.state(), plain((number, 1.0) for number in range(1, 7)).state())
    guarded.step(9)
    kept = guarded.loop.state()
    assert guarded.guard.roll_back(9).action is Action.GO, "not in the cooldown"
    assert_same(guarded.loop.state(), kept)
    assert not torch.equal(kept["0.weight"], before["0.weight"])


def test_a_snapshot_on_request_comes_at_the_next_sound_step() -> None:
    """Given a long interval, when a snapshot is asked for, then it is taken at the next step, and only once."""
    guarded = Guarded(GuardOptions(snapshot_every=100))
    taken: list[int] = []
    for number, fault in enumerate([None, None, "nan-loss", None, None], 1):
        if number == 3:
            guarded.guard.want_snapshot()
        before = guarded.guard.record.snapshots
        guarded.step(number, fault)
        taken += [number] * (guarded.guard.record.snapshots - before)
    assert taken == [1, 4]


@pytest.mark.parametrize("kind", ["tensor", "vector", "number"])
def test_a_loss_of_any_kind_is_seen(kind: str) -> None:
    """Given micro-batch losses as tensors, vectors or numbers, when one of three is infinite, then the step is bad."""
    guarded = Guarded(GuardOptions())
    guarded.guard.begin_step()
    guarded.loop.backward(1)
    for value in (1.0, math.inf, 2.0):
        made = {"tensor": torch.tensor(value), "vector": torch.tensor([1.0, value]), "number": value}[kind]
        guarded.guard.saw_loss(made)
    assert guarded.guard.before_update(1).action is Action.SKIP
    guarded.guard.after_update()
    guarded.guard.begin_step()
    guarded.loop.backward(1)
    guarded.guard.saw_loss(1.0)
    assert guarded.guard.before_update(2).action is Action.GO, "the next step is judged by its own losses"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_norm_of_any_type_is_read(dtype: torch.dtype) -> None:
    """Given a norm in a type of its own beside a loss in another, when it is judged, then NaN and numbers are told."""
    guarded = Guarded(GuardOptions())
    for step, (norm, action) in enumerate([(3.0, Action.GO), (math.nan, Action.SKIP), (2.0, Action.GO)], 1):
        guarded.guard.begin_step()
        guarded.guard.saw_loss(torch.tensor(0.5, dtype=torch.float32))
        assert guarded.guard.before_update(step, norm=torch.tensor([norm], dtype=dtype)).action is action
        guarded.guard.after_update()


def test_a_schedule_that_does_not_move_with_the_updates_is_let_go() -> None:
    """Given a dropped update, when the hold is forgotten, then what the schedule does next stays done."""
    guarded = Guarded(GuardOptions())
    guarded.guard.begin_step()
    guarded.guard.saw_loss(math.nan)
    assert guarded.guard.before_update(1).action is Action.SKIP
    guarded.guard.forget_hold()
    guarded.loop.optimizer.step()
    guarded.loop.schedule.step()
    guarded.guard.after_update()
    assert guarded.loop.schedule.last_epoch == 1


def test_a_run_that_broke_off_is_not_looked_at() -> None:
    """Given a run that ended in an exception, when the guard finishes, then nothing is said of its state."""
    guarded = Guarded(GuardOptions())
    guarded.step(1)
    guarded.loop.hurt("nan-weights")
    assert guarded.guard.finish(1, complete=False).integrity_status == "not_checked"


def test_a_fault_in_the_guard_is_told_at_the_next_step_and_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a guard that cannot note the random numbers, when steps follow, then it is off, and the loop goes on."""
    guarded = Guarded(GuardOptions(snapshot_every=1))
    guarded.step(1)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "start", lambda _: 1 / 0)
        guarded.guard.begin_step()
    guarded.loop.backward(2)
    decision = guarded.guard.before_update(2)
    assert (decision.action, decision.stops) == (Action.ABORT, False)
    assert guarded.guard.gave_up
    assert [(type(fault), where) for fault, where in guarded.faults] == [
        (ZeroDivisionError, "the guard, noting the random numbers")
    ]
    assert guarded.written.last("abort")["trigger"] == str(Trigger.GUARD_FAULT)
    assert any(parameter.grad is not None for parameter in guarded.loop.model.parameters()), "the update is applied"
    guarded.loop.update()
    guarded.guard.begin_step()
    guarded.guard.saw_loss(math.nan)
    assert guarded.guard.before_update(3).action is Action.GO
    assert guarded.guard.finish(3, complete=True).gave_up == "the guard itself failed"


def test_verdicts_are_ordered_by_how_bad_they_are() -> None:
    """Given the verdicts, when ranks take the largest, then it is the worst."""
    assert sorted(Verdict) == [
        Verdict.GOOD, Verdict.WARN, Verdict.SCALED, Verdict.SKIP, Verdict.RESTORE, Verdict.FAILED,
    ]  # fmt: skip
