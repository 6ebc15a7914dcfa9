"""Loops written by hand, guarded or not: small networks, faults of every kind, schedules of every habit."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradience_emit.controller import GradienceController

EPOCH = 5
"""Updates in an epoch, for schedules that move once in each."""


def lambda_lr(optimizer: Any) -> Any:
    """Falls at every update."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 / (1.0 + 0.1 * step))


def one_cycle(optimizer: Any) -> Any:
    """Moves learning rate and momentum at every update."""
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=40)


def sequence(optimizer: Any) -> Any:
    """Warms up, then falls."""
    parts = [
        torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=6),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30),
    ]
    return torch.optim.lr_scheduler.SequentialLR(optimizer, parts, milestones=[6])


def chained(optimizer: Any) -> Any:
    """Two that multiply; this class has no place of its own in the schedule."""
    parts = [
        torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.97),
        torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=4),
    ]
    return torch.optim.lr_scheduler.ChainedScheduler(parts, optimizer=optimizer)


def step_lr(optimizer: Any) -> Any:
    """Halves at every epoch."""
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)


SCHEDULES: dict[str, tuple[Callable[[Any], Any] | None, bool]] = {
    "constant": (None, False),
    "lambda": (lambda_lr, False),
    "one_cycle": (one_cycle, False),
    "sequence": (sequence, False),
    "chained": (chained, False),
    "per_epoch": (step_lr, True),
}
"""Name → what makes it, and whether it moves with the epochs."""


@dataclass
class Training:
    """One training, ready to go: everything in it is made from the seed.

    Attributes:
        schedule: a name of `SCHEDULES`.
        dropout: probability of the dropout layer.
        batch_norm: whether there are running statistics.
        accumulation: micro-batches of an update.
        updates: how many.
        clip: the gradient norm to clip to; None for none.
        fused: whether the optimizer is the fused one.
        scale: the initial scale of a gradient scaler; None for none.
        tells_loss: whether the loop tells the controller its loss.
    """

    schedule: str = "constant"
    dropout: float = 0.2
    batch_norm: bool = False
    accumulation: int = 1
    updates: int = 20
    clip: float | None = None
    fused: bool = False
    scale: float | None = None
    tells_loss: bool = False
    model: Any = field(init=False)
    optimizer: Any = field(init=False)
    scheduler: Any = field(init=False)
    scaler: Any = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        norm: list[nn.Module] = [nn.BatchNorm1d(8)] if self.batch_norm else []
        self.model = nn.Sequential(nn.Linear(6, 8), *norm, nn.ReLU(), nn.Dropout(self.dropout), nn.Linear(8, 3))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2, fused=self.fused)
        make, self.per_epoch = SCHEDULES[self.schedule]
        self.scheduler = None if make is None else make(self.optimizer)
        self.scaler = None if self.scale is None else torch.amp.GradScaler("cpu", init_scale=self.scale)

    def parts(self) -> dict[str, Any]:
        """What a controller is given."""
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.scaler,
        }

    def run(
        self,
        faults: dict[int, str] | None = None,
        left_out: Collection[int] = (),
        controller: GradienceController | None = None,
    ) -> Training:
        """Train.

        Args:
            faults: update → what strikes it.
            left_out: updates whose batches are never seen.
            controller: told the losses, where the loop tells them.
        """
        data = torch.Generator().manual_seed(7)
        for update in range(1, self.updates + 1):
            batches = [
                (torch.randn(8, 6, generator=data), torch.randn(8, 3, generator=data)) for _ in range(self.accumulation)
            ]
            if update not in left_out:
                self.update(batches, (faults or {}).get(update, ""), controller)
            if self.scheduler is not None and self.per_epoch and update % EPOCH == 0:
                self.scheduler.step()
        return self

    def update(self, batches: list[Any], fault: str, controller: GradienceController | None = None) -> None:
        """One update, as anybody writes it."""
        if fault == "nan_weights":
            with torch.no_grad():
                self.model[0].weight[0, 0] = float("nan")
        for inputs, targets in batches:
            factor = float("nan") if fault == "nan_batch" else 1.0
            with torch.autocast("cpu", dtype=torch.float16, enabled=self.scaler is not None):
                loss = nn.functional.mse_loss(self.model(inputs * factor), targets)
            if controller is not None and self.tells_loss:
                controller.saw_loss(loss)
            loss = loss / len(batches)
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        if fault in {"nan_gradient", "explosion"}:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            for parameter in self.model.parameters():
                parameter.grad *= float("nan") if fault == "nan_gradient" else 1e6
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if self.scheduler is not None and not self.per_epoch:
            self.scheduler.step()
        self.optimizer.zero_grad()

    def outcome(self) -> dict[str, torch.Tensor]:
        """Everything that a training leaves behind, the next random number included."""
        found = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for number, entry in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{number}.{name}": value for name, value in entry.items()}
        for number, group in enumerate(self.optimizer.param_groups):
            found[f"lr.{number}"] = torch.tensor(group["lr"], dtype=torch.float64)
            found[f"betas.{number}"] = torch.tensor(group["betas"], dtype=torch.float64)
        if self.scaler is not None:
            found |= {f"scaler.{name}": torch.tensor(value) for name, value in self.scaler.state_dict().items()}
        return found | {"random": torch.get_rng_state()}


def watched(folder: Path, training: Training, faults: dict[int, str] | None = None, **options: Any) -> dict[str, Any]:
    """Train under `GradienceController.watch`; the summary."""
    clipped = training.clip is not None
    controller = GradienceController(folder, **training.parts(), **options)
    with controller.watch(clipped=clipped):
        training.run(faults, controller=controller)
    assert controller.summary is not None
    return controller.summary


def differences(one: Training, other: Training) -> list[str]:
    """What differs between two outcomes, by a single bit or more; NaN equals NaN."""
    first, second = one.outcome(), other.outcome()
    assert first.keys() == second.keys()
    return [name for name in first if not torch.equal(first[name].nan_to_num(), second[name].nan_to_num())]


def events(folder: Path, name: str = "run.jsonl") -> list[dict[str, Any]]:
    """The records of a run."""
    return [json.loads(line) for line in (folder / name).read_bytes().splitlines()]


def alerts(folder: Path) -> list[tuple[int, str]]:
    """Step and code of each alert, those of every run left out."""
    usual = {"GUARD_INIT", "GUARD_SNAPSHOT"}
    return [(e["step"], e["code"]) for e in events(folder) if e["event"] == "alert" and e["code"] not in usual]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order, whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
