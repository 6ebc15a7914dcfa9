"""Training with the callback is training without it: losses, weights, random numbers, and what other callbacks see."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from gradience_emit.hf import GradienceCallback
from tests.emit.hf import tiny


class Witness(TrainerCallback):  # type: ignore[misc]
    """Notes the events and the random state at each step, as another callback sees them."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.draws: list[tuple[Any, ...]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the random state."""
        self.events.append("step")
        self.draws.append((torch.get_rng_state().sum().item(), np.random.get_state()[2], hash(random.getstate())))

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the event."""
        self.events.append("prediction")

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the event and the data it was about."""
        self.events.append(f"evaluate {len(kwargs['eval_dataloader'].dataset)}")


def _run(out: Path, *callbacks: Any, **options: Any) -> tuple[dict[str, Any], list[dict[str, Any]], Witness]:
    witness = Witness()
    trainer = tiny.trainer(out, *callbacks, witness, **options)
    trainer.train()
    rows = [
        {key: value for key, value in row.items() if "runtime" not in key and "per_second" not in key}
        for row in trainer.state.log_history
    ]
    return tiny.weights(trainer.model), rows, witness


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 2, "max_grad_norm": 0.0},
        {"eval_strategy": "steps", "eval_steps": 2, "num_train_epochs": 2, "max_steps": -1},
        {"eval_strategy": "epoch", "dataloader_num_workers": 1, "dataloader_persistent_workers": True, "max_steps": 6},
    ],
    ids=["plain", "accumulation", "evaluation", "workers"],
)
def test_losses_and_weights_are_equal_bit_for_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    """Given dropout, shuffling and evaluations, when the callback records everything, then nothing else changes."""
    weights, rows, seen = _run(tmp_path / "without", **options)
    callback = GradienceCallback(telemetry_interval=1, train_eval_samples=6)
    weights_with, rows_with, seen_with = _run(tmp_path / "with", callback, **options)
    assert tiny.same_weights(weights, weights_with)
    assert rows == rows_with
    assert seen.draws == seen_with.draws
    assert seen.events == seen_with.events


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    """Given a callback that draws one random number, when the runs are compared, then they differ."""

    class Careless(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            torch.rand(1)

    weights, rows, _ = _run(tmp_path / "without")
    weights_with, rows_with, _ = _run(tmp_path / "with", Careless())
    assert not tiny.same_weights(weights, weights_with)
    assert rows != rows_with
