"""A watched loop in which a batch is bad ends bit for bit where the loop ends that never had the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gradience_emit.controller import GradienceController
from tests.emit.controller import loops
from tests.emit.controller.loops import SCHEDULES, Training, differences, watched

FAULTY = (1, 2, 5, 6, 11)
"""Updates that are struck: the first, before anything is known; the last and the first of an epoch; a later one."""


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("fault", ["nan_gradient", "nan_batch"])
def test_the_bad_batches_never_were(tmp_path: Path, fault: str, schedule: str) -> None:
    """Given NaN batches under a schedule, when the loop is watched, then it ends as if they had been left out."""
    summary = watched(tmp_path, trained := Training(schedule), dict.fromkeys(FAULTY, fault))
    assert differences(trained, Training(schedule).run(left_out=FAULTY)) == []
    assert summary["guard"]["total_skips"] == len(FAULTY)
    assert summary["guard"]["integrity_status"] == "recovered"


@pytest.mark.parametrize("kind", ["batch_norm", "accumulation", "fused", "clip"])
def test_whatever_the_loop_is_made_of(tmp_path: Path, kind: str) -> None:
    """Given running statistics, accumulation, a fused optimizer or clipping, when struck, then nothing remains."""
    options: dict[str, Any] = {
        "batch_norm": {"batch_norm": True},
        "accumulation": {"accumulation": 3, "batch_norm": True},
        "fused": {"fused": True},
        "clip": {"clip": 0.5},
    }[kind]
    watched(tmp_path, trained := Training("one_cycle", **options), dict.fromkeys(FAULTY, "nan_batch"))
    assert differences(trained, Training("one_cycle", **options).run(left_out=FAULTY)) == []


@pytest.mark.parametrize("updates", [{18}, {1, 18}])
def test_an_explosion_without_clipping_is_dropped(tmp_path: Path, updates: set[int]) -> None:
    """Given gradients a million times too large, when the loop does not clip, then the update is dropped."""
    summary = watched(tmp_path, trained := Training("lambda"), dict.fromkeys(updates, "explosion"))
    assert differences(trained, Training("lambda").run(left_out=updates)) == []
    assert summary["guard"]["total_skips"] == len(updates)


@pytest.mark.parametrize(("every", "struck"), [(1, 9), (4, 9), (4, 8), (4, 12), (10, 2)])
@pytest.mark.parametrize("schedule", ["one_cycle", "per_epoch", "constant"])
def test_damaged_weights_cost_the_batches_since_the_snapshot(
    tmp_path: Path, schedule: str, every: int, struck: int
) -> None:
    """Given NaN in a weight, when the state is rolled back, then exactly the updates since the snapshot are missing.

    Snapshots are of the state before update 1, 1 + every, 1 + 2 every; none is taken of a damaged one.
    """
    newest = max(update for update in range(1, struck, every))
    lost = tuple(range(newest, struck + 1))
    summary = watched(tmp_path, trained := Training(schedule), {struck: "nan_weights"}, guard_snapshot_every=every)
    assert differences(trained, Training(schedule).run(left_out=lost)) == []
    assert summary["guard"]["total_rollbacks"] == 1
    [restored] = [
        e["context"] for e in loops.events(tmp_path) if e["event"] == "alert" and e["code"] == "GUARD_ROLLBACK"
    ]
    assert restored["restored_step"] == min(lost) - 1
    assert restored["optimizer_restored"] is True


def test_damage_by_the_last_update_is_repaired_on_leaving(tmp_path: Path) -> None:
    """Given weights damaged after the last update, when the block is left, then the last snapshot is restored."""
    training = Training("lambda", updates=11)
    controller = GradienceController(tmp_path, **training.parts())
    with controller.watch():
        training.run()
        with torch.no_grad():
            training.model[0].weight.fill_(float("inf"))
    assert differences(training, Training("lambda", updates=11).run(left_out=(11,))) == []


def test_gradients_left_on_frozen_weights_do_not_keep_the_nan(tmp_path: Path) -> None:
    """Given a frozen layer with a gradient from before, when a NaN batch is clipped over all, then one batch is lost.

    Clipping multiplies every gradient with NaN, and ``optimizer.zero_grad`` clears those of the optimizer only.
    """

    def frozen() -> Training:
        training = Training("lambda", clip=0.5)
        training.model[3].requires_grad_(False)
        training.optimizer = torch.optim.AdamW(training.model[0].parameters(), lr=1e-2)
        training.scheduler = SCHEDULES["lambda"][0](training.optimizer)  # type: ignore[misc]
        return training

    trained = frozen()
    trained.model[3].weight.grad = torch.zeros(3, 8)
    summary = watched(tmp_path, trained, {7: "nan_batch"})
    assert summary["guard"]["total_skips"] == 1
    assert differences(trained, frozen().run(left_out=(7,))) == []


def test_an_evaluation_between_the_steps_keeps_its_random_numbers(tmp_path: Path) -> None:
    """Given an evaluation that draws random numbers between the updates, when a batch is bad, then all is as without.

    Once under ``no_grad``, and once by a loop that forgot it and evaluates with gradients.
    """

    def evaluating(training: Training, *, forgets: bool) -> None:
        update = training.update

        def updated_and_evaluated(*args: Any) -> None:
            update(*args)
            evaluate(training, forgets=forgets)

        training.update = updated_and_evaluated  # type: ignore[method-assign]

    def evaluate(training: Training, *, forgets: bool) -> None:
        training.model.eval()
        with torch.set_grad_enabled(forgets):
            training.model(torch.randn(8, 6))
        training.model.train()

    for forgets in (False, True):
        evaluating(guarded := Training("lambda"), forgets=forgets)
        watched(tmp_path, guarded, {4: "nan_batch", 12: "nan_batch"})
        evaluating(bare := Training("lambda"), forgets=forgets)
        bare_update, count = bare.update, iter(range(1, 100))

        def left_out(*args: Any, training: Training = bare, update: Any = bare_update, count: Any = count) -> None:
            if next(count) in {4, 12}:
                evaluate(training, forgets=False)  # the evaluation is there, the batch is not
            else:
                update(*args)

        bare.update = left_out  # type: ignore[method-assign]
        bare.run()
        assert differences(guarded, bare) == []


@pytest.mark.parametrize("schedule", ["constant", "one_cycle", "per_epoch"])
@pytest.mark.parametrize("options", [{}, {"batch_norm": True, "accumulation": 2}, {"fused": True}, {"scale": 2.0**8}])
def test_a_healthy_run_is_not_touched(tmp_path: Path, schedule: str, options: dict[str, Any]) -> None:
    """Given no fault, when the loop is watched, then it ends bit for bit as the loop alone."""
    watched(tmp_path / "act", acted := Training(schedule, **options), guard_snapshot_every=1)
    watched(tmp_path / "observe", observed := Training(schedule, **options), guard_mode="observe")
    watched(tmp_path / "off", unguarded := Training(schedule, **options), guard_enabled=False)
    alone = Training(schedule, **options).run()
    assert differences(acted, alone) == []
    assert differences(observed, alone) == []
    assert differences(unguarded, alone) == []
    assert loops.alerts(tmp_path / "act") == []


def test_an_observing_guard_changes_nothing(tmp_path: Path) -> None:
    """Given faults, when the guard only observes, then the loop ends as damaged as the loop alone, and says so."""
    summary = watched(tmp_path, trained := Training("lambda"), {9: "explosion"}, guard_mode="observe")
    assert differences(trained, Training("lambda").run({9: "explosion"})) == []
    assert loops.alerts(tmp_path) == [(9, "GUARD_TRIGGERED")]
    assert summary["guard"]["total_skips"] == 1
    assert summary["guard"]["mode"] == "observe"
