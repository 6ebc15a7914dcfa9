"""A guard with nothing to do changes nothing: losses, weights, moments, random numbers, and what others see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradience_emit.hf import GradienceCallback
from tests.emit.hf import faulty, tiny
from tests.emit.hf.test_bit_equality import Witness

# from the oldest peft that is supported, about a base model that is only in memory
pytestmark = pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")


def _run(out: Path, *callbacks: Any, **options: Any) -> tuple[dict[str, Any], list[dict[str, Any]], Witness]:
    faulty.collect_only_what_is_new()
    witness = Witness()
    trainer = tiny.trainer(out, *callbacks, witness, **options)
    trainer.train()
    rows = [
        {key: value for key, value in row.items() if "runtime" not in key and "per_second" not in key}
        for row in trainer.state.log_history
    ]
    return faulty.state_of(trainer), rows, witness


@pytest.mark.parametrize("mode", ["act", "observe"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 2, "max_grad_norm": 0.0},
        {"eval_strategy": "steps", "eval_steps": 2, "num_train_epochs": 2, "max_steps": -1},
        {"eval_strategy": "epoch", "dataloader_num_workers": 1, "dataloader_persistent_workers": True, "max_steps": 6},
        {"save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "cosine", "max_steps": 6},
    ],
    ids=["plain", "accumulation", "evaluation", "workers", "checkpoints"],
)
def test_a_guard_without_a_fault_changes_no_bit(tmp_path: Path, options: dict[str, Any], mode: str) -> None:
    """Given no fault and a snapshot at every step, when training ends, then it is the run without the guard."""
    left, rows, seen = _run(tmp_path / "without", **options)
    callback = GradienceCallback(None, enable_guard=True, guard_mode=mode, guard_snapshot_every=1, telemetry_interval=0)
    left_with, rows_with, seen_with = _run(tmp_path / "with", callback, **options)
    assert faulty.differences(left_with, left) == []
    assert rows_with == rows
    assert seen_with.draws == seen.draws
    assert seen_with.events == seen.events
    said = faulty.summary(tmp_path / "with")
    assert (said["integrity_status"], said["total_triggers"]) == ("ok", 0)
    steps = seen.events.count("step")
    assert said["total_snapshots"] == (steps if mode == "act" else 0)
