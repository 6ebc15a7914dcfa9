"""Trainings with a fault on purpose, and what is left of them: every bit that an optimizer step changes."""

from __future__ import annotations

import copy
import functools
import gc
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from gradience_emit.hf import GradienceCallback
from tests.emit.hf import tiny

BATCH = 4


class Adapter(torch.nn.Module):
    """A frozen linear layer with a rank-2 adapter and dropout: a training step of a millisecond."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.base = torch.nn.Linear(8, 8).requires_grad_(False)
        self.a, self.b = torch.nn.Linear(8, 2, bias=False), torch.nn.Linear(2, 8, bias=False)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, x: Any, labels: Any) -> dict[str, Any]:
        """Mean squared error."""
        return {"loss": (self.base(x) + self.b(self.a(self.dropout(x))) - labels).square().mean()}


def points(count: int) -> list[dict[str, Any]]:
    """Rows for `Adapter`."""
    generator = torch.Generator().manual_seed(3)
    inputs, labels = torch.randn(2, count, 8, generator=generator)
    return [{"x": x, "labels": y} for x, y in zip(inputs, labels, strict=True)]


def nan_loss(trainer: Any) -> None:
    """The loss, and with it the gradient, is NaN."""
    trainer.factor = math.nan


def explosion(trainer: Any) -> None:
    """The loss, and with it the gradient, is ten thousand times too large."""
    trainer.factor = 1e4


def nan_weights(trainer: Any) -> None:
    """One weight is NaN before the step."""
    with torch.no_grad():
        trained(trainer)[0].view(-1)[0] = math.nan


def nan_moments(trainer: Any) -> None:
    """One first moment of Adam is NaN before the step."""
    trainer.optimizer.state[trained(trainer)[0]]["exp_avg"].view(-1)[0] = math.nan


def infinite_moments(trainer: Any) -> None:
    """One second moment of Adam is infinite, so that its weight never moves again."""
    trainer.optimizer.state[trained(trainer)[0]]["exp_avg_sq"].view(-1)[0] = math.inf


def nan_gradient(trainer: Any) -> None:
    """One entry of the gradient is NaN, and the loss is not."""
    trained(trainer)[-1].grad.view(-1)[0] = math.nan


AFTER_BACKWARD = {nan_gradient}
Fault = Callable[[Any], None]


class Faulty(Trainer):  # type: ignore[misc] # transformers is Any to mypy
    """Trains on its rows in their order, and has a fault in the first micro-batch of some steps.

    Attributes:
        faults: by step, counted from 1.
        factor: on the loss of the coming micro-batch.
    """

    faults: Mapping[int, Fault]
    factor = 1.0
    hurt = 0

    def get_train_dataloader(self) -> Any:
        """In order, so that a run without a batch is one on fewer rows."""
        rows = DataLoader(self.train_dataset, batch_size=self.args.train_batch_size, collate_fn=self.data_collator)
        return self.accelerator.prepare(rows)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss times `factor`."""
        factor, self.factor = self.factor, 1.0
        loss: Any = super().compute_loss(model, inputs, *args, **kwargs)
        return loss * factor if factor != 1.0 else loss

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """With the fault of this step, if it has one and this is its first micro-batch."""
        step = self.state.global_step + 1
        fault = self.faults.get(step) if step != self.hurt else None
        self.hurt = step
        if fault is not None and fault not in AFTER_BACKWARD:
            fault(self)
        loss = super().training_step(*args, **kwargs)
        if fault is not None and fault in AFTER_BACKWARD:
            fault(self)
        return loss


class StopAfter(TrainerCallback):  # type: ignore[misc] # transformers is Any to mypy
    """Ends training after some steps, whatever its schedule was made for."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop."""
        control.should_training_stop = control.should_training_stop or state.global_step >= self.steps


def trained(trainer: Any) -> list[Any]:
    """The trainable parameters."""
    return [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]


def faulty(
    out: Path,
    *callbacks: Any,
    faults: Mapping[int, Fault] | None = None,
    steps: int = 10,
    without: Sequence[int] = (),
    stop: int | None = None,
    rows: Callable[[int], list[dict[str, Any]]] = tiny.rows,
    **options: Any,
) -> Any:
    """A trainer for one pass over the batches of ``steps`` steps, less those of the steps in ``without``.

    Args:
        out: its folder.
        *callbacks: more callbacks.
        faults: by step.
        steps: steps that the schedule is made for.
        without: steps, counted from 1, whose batches it never sees; it ends as many steps earlier.
        stop: step, counted with those it never sees, to end after; by default the last.
        rows: makes the examples.
        **options: as of `tiny.trainer`.
    """
    collect_only_what_is_new()
    size = BATCH * options.get("gradient_accumulation_steps", 1) * int(os.environ.get("WORLD_SIZE", "1"))
    every = rows(size * steps)
    kept = [row for place, row in enumerate(every) if place // size + 1 not in without]
    ends = StopAfter((stop or steps) - len(without))
    options = {"kind": Faulty, "train_dataset": kept, "max_steps": steps, "lr_scheduler_type": "linear"} | options
    trainer = tiny.trainer(out, *callbacks, ends, **options)
    trainer.faults = faults or {}
    return trainer


@functools.cache
def collect_only_what_is_new() -> None:
    """Once: every train() collects garbage, and going through all that was imported takes longer than training."""
    gc.collect()
    gc.freeze()


def guarded(out: Path, faults: Mapping[int, Fault], *callbacks: Any, **options: Any) -> Any:
    """The same with the guard; ``guard_…`` options are the guard's. Trained already."""
    own = {"enable_guard": True, "telemetry_interval": 0}
    own |= {name: options.pop(name) for name in list(options) if name.startswith(("guard_", "telemetry_", "rank_"))}
    callback = GradienceCallback(None, **own)
    trainer = faulty(out, callback, *callbacks, faults=faults, **options)
    trainer.train()
    return trainer


def unguarded(out: Path, **options: Any) -> Any:
    """The same without the guard and without telemetry. Trained already."""
    trainer = faulty(out, **options)
    trainer.train()
    return trainer


def state_of(trainer: Any) -> dict[str, Any]:
    """Weights, optimizer state, options of its groups, schedule and random numbers, as flat names and values."""
    found: dict[str, Any] = {f"weight {name}": value for name, value in tiny.weights(trainer.model).items()}
    found |= {f"buffer {name}": value.clone() for name, value in trainer.model.named_buffers()}
    optimizer = trainer.optimizer.state_dict()
    found |= {
        f"state {owner} {name}": copy.deepcopy(value)
        for owner, entry in optimizer["state"].items()
        for name, value in entry.items()
    }
    groups = copy.deepcopy(optimizer["param_groups"])
    found |= {f"group {i} {name}": value for i, group in enumerate(groups) for name, value in group.items()}
    schedule = trainer.lr_scheduler.state_dict()
    found |= {f"schedule {name}": value for name, value in schedule.items() if isinstance(value, (int, float, list))}
    return found | {"random": torch.get_rng_state()}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The names whose values are not equal bit for bit, NaN included; empty when the two are the same."""
    return [name for name in sorted(one.keys() | other.keys()) if not _same(one.get(name), other.get(name))]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and _bits(one) == _bits(other)
    if isinstance(one, (list, tuple)) and type(one) is type(other) and len(one) == len(other):
        return all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else repr(tensor).encode()


def alerts(out: Path, code: str) -> list[dict[str, Any]]:
    """The alerts of one code."""
    return tiny.of(tiny.events(out), "alert", code=code)


def summary(out: Path) -> dict[str, Any]:
    """The guard's part of ``summary.json``."""
    content: dict[str, Any] = json.loads((out / "summary.json").read_text("utf-8"))
    return content["guard"]


def is_finite(trainer: Any) -> bool:
    """Whether the trainable weights and the optimizer's state are."""
    entries = trainer.optimizer.state_dict()["state"].values()
    state = [value for entry in entries for value in entry.values() if isinstance(value, torch.Tensor)]
    return all(bool(torch.isfinite(tensor).all()) for tensor in (*trained(trainer), *state))


def acts(out: Path) -> list[dict[str, Any]]:
    """What the guard did at steps, in order: its metrics of action skip, rollback and abort."""
    kept = {"skip", "rollback", "abort"}
    events = tiny.of(tiny.events(out), "metrics", kind="guard")
    return [{"step": e["step"], **e["metrics"]} for e in events if e["metrics"]["action"] in kept]


def dropped(out: Path) -> list[int]:
    """The steps whose batches left no trace, as the run's own telemetry says."""
    steps: set[int] = set()
    for act in acts(out):
        first = act.get("restored_step", act["step"] - 1) + 1
        steps |= set(range(first, act["step"] + 1))
    return sorted(steps)
