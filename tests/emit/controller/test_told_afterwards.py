"""A loop that tells of each step after it, and saves and restores its state by functions of its own."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gradience_emit.controller import GradienceController, GuardUnsupportedError
from tests.emit.controller import loops
from tests.emit.controller.loops import Training, differences, events


def saved(training: Training) -> dict[str, Any]:
    """Everything of a training, copied."""
    state = {"model": training.model.state_dict(), "optimizer": training.optimizer.state_dict()}
    if training.scheduler is not None:
        state["scheduler"] = training.scheduler.state_dict()
    return copy.deepcopy(state)


def loaded(training: Training, state: dict[str, Any]) -> None:
    """Restore it."""
    training.model.load_state_dict(state["model"])
    training.optimizer.load_state_dict(state["optimizer"])
    if training.scheduler is not None:
        training.scheduler.load_state_dict(state["scheduler"])


def rate(training: Training) -> Callable[[], float]:
    """What gives the learning rate."""
    return lambda: float(training.optimizer.param_groups[0]["lr"])


def set_rate(training: Training) -> Callable[[float], None]:
    """What sets it."""

    def to(value: float) -> None:
        training.optimizer.param_groups[0]["lr"] = value

    return to


def begun(folder: Path, training: Training, **options: Any) -> GradienceController:
    """A controller that knows the training by its functions."""
    return GradienceController(out_dir=folder, **options).initialize(
        training.model,
        lambda: saved(training),
        lambda state: loaded(training, state),
        rate(training),
        set_rate(training),
    )


def tell(
    training: Training,
    controller: GradienceController,
    faults: dict[int, str] | None = None,
    *,
    before_zero_grad: bool = False,
) -> int:
    """Train, telling of each step, until told to stop; the last update."""
    data = torch.Generator().manual_seed(7)
    for update in range(1, training.updates + 1):
        inputs, targets = torch.randn(8, 6, generator=data), torch.randn(8, 3, generator=data)
        fault = (faults or {}).get(update, "")
        factor = float("nan") if fault == "nan_batch" else 1.0
        loss = torch.nn.functional.mse_loss(training.model(inputs * factor), targets)
        loss.backward()
        if fault == "explosion":
            for parameter in training.model.parameters():
                parameter.grad *= 1e6
        if fault != "skipped_by_the_loop":
            training.optimizer.step()
        if training.scheduler is not None and not training.per_epoch:
            training.scheduler.step()
        if not before_zero_grad:
            training.optimizer.zero_grad()
        told = float("nan") if fault == "skipped_by_the_loop" else loss
        goes_on = controller.step(update, told, training.model)
        training.optimizer.zero_grad()
        if not goes_on:
            return update
    return training.updates


@pytest.mark.parametrize("schedule", ["constant", "lambda", "one_cycle"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_snapshot_of_every_step_loses_the_bad_batch_alone(tmp_path: Path, schedule: str, *, batch_norm: bool) -> None:
    """Given a snapshot at each step, when batches are NaN, then the loop ends as if they had been left out."""
    struck = dict.fromkeys((1, 8, 17), "nan_batch")
    trained = Training(schedule, batch_norm=batch_norm)
    controller = begun(tmp_path, trained, guard_snapshot_every=1, guard_cooldown_steps=0)
    assert tell(trained, controller, struck) == 20
    summary = controller.finalize()
    assert differences(trained, Training(schedule, batch_norm=batch_norm).run(left_out=struck)) == []
    assert summary["guard"]["total_rollbacks"] == 3
    assert summary["guard"]["integrity_status"] == "recovered"
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8")) == summary


@pytest.mark.parametrize(("every", "struck", "newest"), [(5, 3, 0), (5, 5, 0), (5, 6, 5), (5, 14, 10)])
def test_other_snapshots_lose_the_batches_since(tmp_path: Path, every: int, struck: int, newest: int) -> None:
    """Given a snapshot every 5 steps, when a batch is NaN, then those since the last sound snapshot are missing."""
    trained = Training("lambda")
    controller = begun(tmp_path, trained, guard_snapshot_every=every)
    tell(trained, controller, {struck: "nan_batch"})
    controller.finalize()
    assert differences(trained, Training("lambda").run(left_out=range(newest + 1, struck + 1))) == []
    [rollback] = [e for e in events(tmp_path) if e.get("code") == "GUARD_ROLLBACK"]
    assert (rollback["step"], rollback["context"]["restored_step"]) == (struck, newest)


def test_a_snapshot_is_restored_more_than_once(tmp_path: Path) -> None:
    """Given two faults after one snapshot, when both restore it, then the updates between have not changed it.

    The load function hands the saved tensors to the optimizer, whose own load_state_dict takes them over.
    """
    trained = Training("lambda")
    controller = begun(tmp_path, trained, guard_snapshot_every=5, guard_cooldown_steps=0)
    tell(trained, controller, {7: "nan_batch", 9: "nan_batch"})
    controller.finalize()
    restored = [e["context"]["restored_step"] for e in events(tmp_path) if e.get("code") == "GUARD_ROLLBACK"]
    assert restored == [5, 5]
    assert differences(trained, Training("lambda").run(left_out=(6, 7, 8, 9))) == []


def test_an_optimizer_that_was_not_copied_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Given a save_fn that copies the weights and forgets the optimizer, when it saves again, then a warning, once."""
    trained = Training()
    controller = GradienceController(tmp_path, guard_snapshot_every=2).initialize(
        trained.model,
        lambda: {
            "model": copy.deepcopy(trained.model.state_dict()),
            "optimizer": trained.optimizer.state_dict(),
        },
        lambda state: loaded(trained, state),
    )
    tell(trained, controller)
    controller.finalize()
    warned = [r.getMessage() for r in caplog.records if "save_fn returned" in r.getMessage()]
    assert len(warned) == 1
    assert "save_fn returned 12 tensors that it had returned before" in warned[0]  # 3 for each of 4 parameters


def test_a_healthy_loop_is_not_touched(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Given no fault, when a loop tells of its steps, then it ends bit for bit as the loop alone."""
    trained = Training("one_cycle", batch_norm=True)
    controller = begun(tmp_path, trained, guard_snapshot_every=1)
    tell(trained, controller, before_zero_grad=True)
    summary = controller.finalize()
    assert differences(trained, Training("one_cycle", batch_norm=True).run()) == []
    assert loops.alerts(tmp_path) == []
    assert not caplog.records
    assert summary["guard"]["integrity_status"] == "ok"
    steps = [e for e in events(tmp_path) if e["event"] == "train_step"]
    assert [e["step"] for e in steps] == [10, 20]
    assert all(e["loss"] > 0 and e["grad_norm"] > 0 and e["lr"] > 0 for e in steps)


def test_an_explosion_that_is_still_seen_is_rolled_back(tmp_path: Path) -> None:
    """Given an unclipped explosion, when its gradients are still there, then the state before it is restored."""
    options = {"guard_snapshot_every": 1}
    seen = Training()
    tell(seen, controller := begun(tmp_path / "seen", seen, **options), {18: "explosion"}, before_zero_grad=True)
    controller.finalize()
    assert loops.alerts(tmp_path / "seen") == [(18, "GUARD_ROLLBACK")]
    assert differences(seen, Training().run(left_out=(18,))) == []

    unseen = Training()
    tell(unseen, controller := begun(tmp_path / "unseen", unseen, **options), {18: "explosion"})
    controller.finalize()
    assert loops.alerts(tmp_path / "unseen") == []


def test_a_bad_loss_over_sound_weights_is_noted(tmp_path: Path) -> None:
    """Given a loop that leaves out its bad batches itself, when it tells the loss, then nothing is rolled back."""
    trained = Training()
    controller = begun(tmp_path, trained)
    tell(trained, controller, {8: "skipped_by_the_loop"})
    summary = controller.finalize()
    assert loops.alerts(tmp_path) == [(8, "GUARD_TRIGGERED")]
    assert summary["guard"]["total_rollbacks"] == 0


def test_running_statistics_count_as_state(tmp_path: Path) -> None:
    """Given a NaN batch that the loop leaves out after the forward pass, when its statistics are NaN, then roll back.

    The weights are sound then, but the next evaluation would be NaN.
    """
    trained = Training(batch_norm=True, updates=6)
    controller = begun(tmp_path, trained, guard_snapshot_every=1)
    tell(trained, controller)
    trained.model(torch.full((8, 6), float("nan")))
    assert controller.step(7, float("nan"))
    controller.finalize()
    assert loops.alerts(tmp_path) == [(7, "GUARD_ROLLBACK")]
    assert differences(trained, Training(batch_norm=True, updates=6).run()) == []


def test_weights_alone_are_not_enough(tmp_path: Path) -> None:
    """Given functions that leave the optimizer out, when a batch is NaN, then the next update is NaN again.

    It is what the docs warn of, and the telemetry says what was restored.
    """
    trained = Training()
    controller = GradienceController(tmp_path, guard_snapshot_every=1, guard_max_skips=6).initialize(
        trained.model, lambda: copy.deepcopy(trained.model.state_dict()), trained.model.load_state_dict
    )
    last = tell(trained, controller, {8: "nan_batch"})
    summary = controller.finalize()
    assert last == 13  # 6 bad steps in a row
    assert summary["guard"]["gave_up"] == "6 bad steps in a row"
    assert summary["guard"]["integrity_status"] == "aborted"
    assert events(tmp_path)[-1]["status"] == "aborted"
    [rollback] = [e["context"] for e in events(tmp_path) if e.get("code") == "GUARD_ROLLBACK"]
    assert (rollback["restored"], rollback["optimizer_restored"]) == (["load_fn", "rng"], False)
    waiting = [e["message"] for e in events(tmp_path) if e.get("code") == "GUARD_SKIP"]
    assert len(waiting) == 4
    assert all("the guard waits: 10 steps of cooldown" in message for message in waiting)


def test_the_telemetry_says_what_was_saved_together(tmp_path: Path) -> None:
    """Given a save_fn that returns a dict of parts, when it is restored, then the record names the parts."""
    trained = Training("lambda")
    tell(trained, controller := begun(tmp_path, trained), {4: "nan_batch"})
    controller.finalize()
    [rollback] = [e["context"] for e in events(tmp_path) if e.get("code") == "GUARD_ROLLBACK"]
    assert rollback["restored"] == ["load_fn", "model", "optimizer", "scheduler", "rng"]
    assert rollback["optimizer_restored"] is True


def test_the_learning_rate_is_lowered_once_for_each_rollback(tmp_path: Path) -> None:
    """Given a back-off of a half, when there are two rollbacks, then the rate is a quarter, whatever was restored.

    The second one restores a snapshot that was taken before the first: its rate is the full one.
    """
    for steps_back in (1, 3):
        trained = Training(updates=12)
        controller = begun(
            tmp_path / str(steps_back),
            trained,
            guard_snapshot_every=2,
            guard_cooldown_steps=0,
            guard_lr_backoff=0.5,
            guard_steps_back=steps_back,
            guard_prune_newer_on_rollback=False,
        )
        tell(trained, controller, {6: "nan_batch", 9: "nan_batch"})
        summary = controller.finalize()
        assert rate(trained)() == pytest.approx(1e-2 / 4)
        assert summary["guard"]["lr_multiplier"] == 0.25


def test_giving_up_is_false_for_good(tmp_path: Path) -> None:
    """Given too many rollbacks, when the guard gives up, then step says False, then and later, over finite weights."""
    trained = Training()
    controller = begun(tmp_path, trained, guard_max_rollbacks=1, guard_cooldown_steps=0)
    assert tell(trained, controller, {4: "nan_batch", 7: "nan_batch"}) == 7
    assert not controller.step(8, 1.0)
    summary = controller.finalize()
    assert summary["guard"]["gave_up"] == "1 rollbacks within 50 steps"
    assert summary["guard"]["integrity_status"] == "aborted"
    assert bool(torch.isfinite(trained.model[0].weight).all())
    last = events(tmp_path)[-1]
    assert (last["status"], last["reason"]) == (
        "aborted",
        "stopped by the guard (1 rollbacks within 50 steps) at step 8",
    )


def test_giving_up_without_stopping(tmp_path: Path) -> None:
    """Given guard_on_abort="continue", when the guard gives up, then step goes on saying True."""
    trained = Training()
    controller = begun(tmp_path, trained, guard_max_rollbacks=0, guard_on_abort="continue")
    assert tell(trained, controller, {4: "nan_batch", 12: "nan_batch"}) == 20
    assert controller.finalize()["guard"]["integrity_status"] == "corrupted"


def test_a_loop_that_goes_back_itself_still_ends(tmp_path: Path) -> None:
    """Given a loop that counts back with its rollback and meets the same batch again, then the guard gives up."""
    trained = Training()
    controller = begun(tmp_path, trained, guard_snapshot_every=2, guard_cooldown_steps=0, guard_max_rollbacks=2)
    data = torch.Generator().manual_seed(7)
    batches = [torch.randn(8, 6, generator=data) for _ in range(9)]
    batches[6] *= float("nan")
    turns, position = 0, 0
    goes_on = True
    while goes_on and position < len(batches) and turns < 60:
        turns += 1
        loss = trained.model(batches[position]).square().mean()
        loss.backward()
        trained.optimizer.step()
        trained.optimizer.zero_grad()
        goes_on = controller.step(position + 1, loss)
        position = position + 1 if bool(torch.isfinite(loss)) else position - 2
    assert not goes_on
    assert controller.finalize()["guard"]["gave_up"] == "2 rollbacks within 50 steps"


def test_live_weights_are_refused(tmp_path: Path) -> None:
    """Given a save_fn that forgets to copy, when the run would begin, then it is refused, and why is said."""
    trained = Training()
    controller = GradienceController(tmp_path)
    with pytest.raises(ValueError, match="save_fn must return a copy: 4 of its tensors are the model's own weights"):
        controller.initialize(
            trained.model, lambda: {"model": trained.model.state_dict()}, trained.model.load_state_dict
        )
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_anything_to_train_is_refused(tmp_path: Path) -> None:
    """Given a frozen model, when the run would begin, then it is refused."""
    model = torch.nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(GuardUnsupportedError, match="without a trainable parameter"):
        GradienceController(tmp_path).initialize(model, dict, lambda _: None)


def test_the_order_of_calls(tmp_path: Path) -> None:
    """Given calls in another order, when they are made, then each says what is missing."""
    trained = Training()
    with pytest.raises(RuntimeError, match=r"step\(\) needs initialize\(\) first"):
        GradienceController(tmp_path).step(1, 0.5)
    with pytest.raises(RuntimeError, match=r"before_step\(\) needs a controller made with model= and optimizer="):
        begun(tmp_path / "a", trained).before_step()
    with pytest.raises(RuntimeError, match=r"initialize\(\) is for a controller without model and optimizer"):
        GradienceController(tmp_path, **trained.parts()).initialize(trained.model, dict, lambda _: None)
    ended = begun(tmp_path / "b", trained)
    ended.finalize()
    with pytest.raises(RuntimeError, match="the run has ended"):
        ended.step(1, 0.5)
