"""A loop that asks before each update and says when the step is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gradience_emit.controller import GradienceController, GuardAbortError
from tests.emit.controller import loops
from tests.emit.controller.loops import SCHEDULES, Training, differences, events


def ask(training: Training, controller: GradienceController, *, obeys: bool = True, tells: bool = True) -> None:
    """Make the training's loop ask the controller; one that does not obey steps whatever the answer."""

    def update(batches: list[Any], fault: str, _: object) -> None:
        norm = None
        for inputs, targets in batches:
            factor = float("nan") if fault == "nan_batch" else 1.0
            loss = torch.nn.functional.mse_loss(training.model(inputs * factor), targets) / len(batches)
            loss.backward()
        if fault == "explosion":
            for parameter in training.model.parameters():
                parameter.grad *= 1e6
        if training.clip is not None:
            norm = torch.nn.utils.clip_grad_norm_(training.model.parameters(), training.clip)
        told = {"loss": loss, "grad_norm": norm} if tells else {}
        apply = controller.before_step(**told, clipped=training.clip is not None)
        if apply or not obeys:
            training.optimizer.step()
            if training.scheduler is not None and not training.per_epoch:
                training.scheduler.step()
        training.optimizer.zero_grad()
        controller.after_step()

    training.update = update  # type: ignore[method-assign]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("obeys", [True, False])
@pytest.mark.parametrize("tells", [True, False])
def test_the_bad_batches_never_were(tmp_path: Path, schedule: str, *, obeys: bool, tells: bool) -> None:
    """Given bad batches, when the loop asks before each step, then it ends as if they had been left out."""
    struck = {1: "nan_batch", 5: "nan_batch", 6: "nan_batch", 18: "explosion"}
    options: dict[str, Any] = {"schedule": schedule, "batch_norm": True, "accumulation": 2}
    controller = GradienceController(tmp_path, **(trained := Training(**options)).parts())
    ask(trained, controller, obeys=obeys, tells=tells)
    trained.run(struck)
    summary = controller.finalize()
    assert differences(trained, Training(**options).run(left_out=struck)) == []
    assert summary["guard"]["total_skips"] == 4
    assert events(tmp_path)[-1]["status"] == "ok"


def explode_before_clipping(training: Training, update: int) -> None:
    """Make the gradient of one update, counted from 1, a million times too large before it is clipped."""
    updates = iter(range(1, 100))
    first = training.model[0].weight
    clip = torch.nn.utils.clip_grad_norm_

    def plain(batches: list[Any], fault: str, _: object) -> None:
        del fault
        [(inputs, targets)] = batches
        torch.nn.functional.mse_loss(training.model(inputs), targets).backward()
        assert first.grad is not None
        if next(updates) == update:
            for parameter in training.model.parameters():
                parameter.grad *= 1e6
        clip(training.model.parameters(), training.clip)
        training.optimizer.step()
        training.optimizer.zero_grad()

    training.update = plain  # type: ignore[method-assign]


def test_a_clipped_explosion_only_warns(tmp_path: Path) -> None:
    """Given clipping and the norm before it, when a gradient explodes, then it is applied, clipped, and noted."""
    controller = GradienceController(tmp_path, **(trained := Training(clip=0.5)).parts(), log_every=18)
    ask(trained, controller)
    trained.run({18: "explosion"})
    controller.finalize()
    reference = Training(clip=0.5)
    explode_before_clipping(reference, 18)
    assert differences(trained, reference.run()) == []
    assert loops.alerts(tmp_path) == [(18, "GUARD_TRIGGERED")]
    [step] = [e for e in events(tmp_path) if e["event"] == "train_step" and e["step"] == 18]
    assert step["grad_norm"] > 1e4  # the norm that was told, not the clipped one


def test_nothing_is_written_before_the_first_step(tmp_path: Path) -> None:
    """Given a controller, when no step was asked for yet, then there is no file, and no end of a run."""
    controller = GradienceController(tmp_path / "out", **Training().parts())
    assert controller.path is None
    assert not (tmp_path / "out").exists()
    with pytest.raises(RuntimeError, match="has not begun"):
        controller.finalize()


def test_the_error_of_giving_up(tmp_path: Path) -> None:
    """Given a loop that is bad for good, when it asks once too often, then the guard's error ends it."""
    controller = GradienceController(tmp_path, **(trained := Training()).parts(), guard_max_skips=3)
    ask(trained, controller)
    with pytest.raises(GuardAbortError, match="step 6"):
        trained.run(dict.fromkeys(range(4, 20), "nan_batch"))
    summary = controller.finalize()
    assert summary["guard"]["integrity_status"] == "aborted"
    assert events(tmp_path)[-1]["status"] == "aborted"


def test_a_lowered_learning_rate_is_not_compounded_by_the_schedule(tmp_path: Path) -> None:
    """Given a rollback that halves the rate, when a schedule goes on that multiplies its last rate, then only once."""
    training = Training("chained", updates=12)
    rates: list[float] = []
    controller = GradienceController(tmp_path, **training.parts(), guard_lr_backoff=0.5, log_every=1)
    training.optimizer.register_step_pre_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))
    with controller.watch():
        training.run({4: "nan_weights"})
    alone: list[float] = []
    reference = Training("chained", updates=12)
    reference.optimizer.register_step_pre_hook(lambda o, *_: alone.append(o.param_groups[0]["lr"]))
    reference.run(left_out=(1, 2, 3, 4))
    # the listener of the test was registered first, so it sees the rate before the guard's factor
    assert rates[4:] == pytest.approx(alone)
    logged = [e for e in events(tmp_path) if e["event"] == "train_step" and e["step"] > 4]
    assert [e["lr"] for e in logged] == pytest.approx(alone)
    assert {e["lr_multiplier"] for e in logged} == {0.5}


def test_checking_before_a_save(tmp_path: Path) -> None:
    """Given weights that were damaged, when the loop checks before it saves, then what it saves is sound."""
    training = Training(updates=11)
    controller = GradienceController(tmp_path, **training.parts())
    with controller.watch():
        training.run()
        assert controller.check()
        with torch.no_grad():
            training.model[0].weight.fill_(float("nan"))
        assert not controller.check()
        assert controller.check()
        assert bool(torch.isfinite(training.model[0].weight).all())
