"""A watched loop with a gradient scaler, which leaves out updates by itself and then calls no optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gradience_emit.controller import GradienceController
from tests.emit.controller import loops
from tests.emit.controller.loops import Training, differences, watched

pytestmark = pytest.mark.filterwarnings(
    "ignore:Detected call of `lr_scheduler.step:UserWarning"  # torch's, of every first step that a scaler leaves out
)
OVERFLOWS = 2.0**20
"""An initial scale at which the first gradients overflow float16: the scaler halves it until they do not."""


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("tells_loss", [False, True])
def test_overflows_are_the_scalers_affair(tmp_path: Path, *, fused: bool, tells_loss: bool) -> None:
    """Given a scale that overflows at first, when the loop is watched, then the scaler does as it does alone."""
    trained = Training("one_cycle", scale=OVERFLOWS, fused=fused, tells_loss=tells_loss)
    summary = watched(tmp_path, trained, log_every=1)
    alone = Training("one_cycle", scale=OVERFLOWS, fused=fused).run()
    assert alone.scaler.get_scale() < OVERFLOWS
    assert differences(trained, alone) == []
    assert loops.alerts(tmp_path) == []
    assert summary["total_steps"] == trained.updates
    assert [e["step"] for e in loops.events(tmp_path) if e["event"] == "train_step"] == list(range(1, 21))


@pytest.mark.parametrize("schedule", ["constant", "one_cycle", "per_epoch"])
@pytest.mark.parametrize("fused", [False, True])
def test_a_bad_gradient_after_an_overflow_leaves_no_trace(tmp_path: Path, schedule: str, *, fused: bool) -> None:
    """Given a NaN that comes after the scaler's check, when it is dropped, then the scaler's count is back too.

    The updates before it overflowed, so that the random numbers must be those of its own step and of no earlier one.
    """
    struck = {4: "nan_gradient", 12: "nan_gradient"}  # the first three overflow
    options: dict[str, Any] = {"schedule": schedule, "scale": OVERFLOWS, "fused": fused, "tells_loss": True}
    summary = watched(tmp_path, trained := Training(**options), struck)
    assert differences(trained, Training(**options).run(left_out=struck)) == []
    assert summary["guard"]["total_skips"] == 2


@pytest.mark.parametrize("fused", [False, True])
def test_a_bad_batch_whose_loss_is_told_does_not_lower_the_scale(tmp_path: Path, *, fused: bool) -> None:
    """Given a NaN loss that the loop tells, when its gradient overflows, then it is the batch and not the scale."""
    struck = {1: "nan_batch", 6: "nan_batch", 7: "nan_batch"}
    options: dict[str, Any] = {
        "schedule": "lambda",
        "scale": 2.0**10,
        "fused": fused,
        "tells_loss": True,
        "batch_norm": True,
    }
    watched(tmp_path, trained := Training(**options), struck)
    assert differences(trained, Training(**options).run(left_out=struck)) == []


def test_a_bad_batch_whose_loss_is_unknown_is_left_to_the_scaler(tmp_path: Path) -> None:
    """Given a NaN loss that nobody tells, when its gradient is NaN, then the scaler does as it does alone."""
    struck = {6: "nan_batch"}
    watched(tmp_path, trained := Training("lambda", scale=2.0**10), struck)
    assert differences(trained, Training("lambda", scale=2.0**10).run(struck)) == []
    assert trained.scaler.get_scale() == 2.0**9


def test_the_scaler_gets_its_method_back(tmp_path: Path) -> None:
    """Given a scaler, when the block is left, then its step is its class's own again."""
    training = Training(scale=2.0**10)
    watched(tmp_path, training)
    assert "step" not in vars(training.scaler)


@pytest.mark.parametrize("schedule", ["one_cycle", "per_epoch"])
def test_the_loops_own_calls_with_a_scaler(tmp_path: Path, schedule: str) -> None:
    """Given a scaler in a loop that asks before each step, when batches are bad, then they never were."""
    struck = {1: "nan_batch", 8: "nan_batch"}

    def asking(training: Training, controller: GradienceController) -> None:
        def update(batches: list[Any], fault: str, _: object) -> None:
            [(inputs, targets)] = batches
            factor = float("nan") if fault else 1.0
            with torch.autocast("cpu", dtype=torch.float16):
                loss = torch.nn.functional.mse_loss(training.model(inputs * factor), targets)
            training.scaler.scale(loss).backward()
            training.scaler.unscale_(training.optimizer)
            if controller.before_step(loss):
                training.scaler.step(training.optimizer)
                if not training.per_epoch:
                    training.scheduler.step()
            training.scaler.update()
            training.optimizer.zero_grad()
            controller.after_step()

        training.update = update  # type: ignore[method-assign]
        training.run(struck)

    trained = Training(schedule, scale=2.0**10)
    controller = GradienceController(tmp_path, **trained.parts())
    asking(trained, controller)
    summary = controller.finalize()
    assert differences(trained, Training(schedule, scale=2.0**10).run(left_out=struck)) == []
    assert summary["guard"]["total_skips"] == 2
