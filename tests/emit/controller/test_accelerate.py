"""A watched loop whose model, optimizer and schedule were prepared by accelerate, with accumulation."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest
import torch

from gradience_emit.controller import GradienceController
from tests.emit.controller.loops import Training, differences, events

accelerate = pytest.importorskip("accelerate")
pytestmark = pytest.mark.hf


def train(training: Training, struck: Collection[int], folder: Path | None) -> Training:
    """Train 12 updates of two batches; without a folder, unguarded and without the struck updates."""
    accelerate.state.PartialState._reset_state()  # accelerate has one state for a process
    accelerate.state.AcceleratorState._reset_state()
    accelerate.state.GradientState._reset_state()  # where a stopped training leaves its data loader
    accelerator = accelerate.Accelerator(gradient_accumulation_steps=2, cpu=True)
    model, optimizer, scheduler = accelerator.prepare(training.model, training.optimizer, training.scheduler)
    data = torch.Generator().manual_seed(7)

    def loop() -> None:
        for number in range(24):
            inputs, targets = torch.randn(8, 6, generator=data), torch.randn(8, 3, generator=data)
            update = 1 + number // 2
            if update in struck and folder is None:
                continue
            with accelerator.accumulate(model):
                loss = torch.nn.functional.mse_loss(model(inputs), targets)
                accelerator.backward(loss * (float("nan") if update in struck and number % 2 else 1.0))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()

    if folder is None:
        loop()
    else:
        controller = GradienceController(folder, model=model, optimizer=optimizer, scheduler=scheduler)
        with controller.watch(clipped=True):
            loop()
    return training


@pytest.mark.parametrize("schedule", ["lambda", "one_cycle"])
def test_the_bad_batches_never_were(tmp_path: Path, schedule: str) -> None:
    """Given accumulated batches of which one is NaN, when the loop is watched, then their update never was."""
    struck = {1, 6, 7}
    guarded = train(Training(schedule, batch_norm=True), struck, tmp_path)
    assert differences(guarded, train(Training(schedule, batch_norm=True), struck, None)) == []
    assert events(tmp_path)[-1]["global_step"] == 12
    assert events(tmp_path)[0]["config"]["optimizer"]["name"] == "AdamW"
