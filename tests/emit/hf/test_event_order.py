"""The order in which a trainer computes, updates and calls back, which the guard relies on: on the version installed.

`make test` runs this with the newest transformers, `make oldest` with the oldest that is supported. They differ in one
thing: an old trainer that does not clip takes no gradient norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from packaging.version import Version
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback

from tests.emit.hf import tiny

NORM_WITHOUT_CLIPPING = Version(transformers.__version__) >= Version("5.3")
EVENTS = (
    *("on_train_begin", "on_epoch_begin", "on_step_begin", "on_substep_end", "on_pre_optimizer_step"),
    *("on_optimizer_step", "on_step_end", "on_log", "on_evaluate", "on_save", "on_epoch_end", "on_train_end"),
)
COUNTED = {"on_step_begin", "on_pre_optimizer_step", "on_optimizer_step", "zero_grad", "on_step_end"}
MICRO_BATCH = ("training_step", "forward", "backward")


class Recorder(TrainerCallback):  # type: ignore[misc]
    """Notes every event, and every call that it is set around.

    Attributes:
        calls: what happened, in order.
        steps: the trainer's ``global_step`` at that moment.
        with_gradients: whether the model held gradients at that moment.
    """

    def __init__(self) -> None:
        self.trainer: Any = None
        self.calls: list[str] = []
        self.steps: list[int] = []
        self.with_gradients: list[bool] = []

    def note(self, name: str) -> None:
        """It happens now; what happens before there is a trainer is left out."""
        if self.trainer is None:
            return
        self.calls.append(name)
        self.steps.append(self.trainer.state.global_step)
        self.with_gradients.append(any(p.grad is not None for p in self.trainer.model.parameters()))

    def around(self, owner: Any, method: str, name: str | Callable[..., str]) -> None:
        """Note calls of a method of one object when they begin."""
        original = getattr(owner, method)

        def noted(*args: Any, **kwargs: Any) -> Any:
            self.note(name if isinstance(name, str) else name(*args, **kwargs))
            return original(*args, **kwargs)

        setattr(owner, method, noted)


def _listener(name: str) -> Callable[..., None]:
    def listen(self: Recorder, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.note(name)

    return listen


for _name in EVENTS:
    setattr(Recorder, _name, _listener(_name))


def record(out: Path, **options: Any) -> Recorder:
    """Train for two steps of four examples a micro-batch, and return what happened."""
    recorder, model = Recorder(), tiny.lora()

    class Scheduler(LambdaLR):
        def step(self, epoch: int | None = None) -> None:
            recorder.note("scheduler.step")
            super().step()

    optimizer = torch.optim.AdamW(parameter for parameter in model.parameters() if parameter.requires_grad)
    options["optimizers"] = optimizer, Scheduler(optimizer, lambda step: 1.0 / (step + 1))
    trainer: Any = tiny.trainer(out, recorder, model=model, max_steps=2, train_dataset=tiny.rows(32), **options)
    recorder.trainer = trainer
    optimizer.register_step_pre_hook(lambda *_: recorder.note("optimizer.step"))
    trainer.model.register_forward_pre_hook(lambda *_: recorder.note("forward"))
    for owner, method in (
        (trainer, "get_batch_samples"),
        (trainer, "training_step"),
        (trainer.model, "zero_grad"),
        (trainer.accelerator, "backward"),
    ):
        recorder.around(owner, method, method)
    recorder.around(trainer, "data_collator", "collate")
    recorder.around(trainer.accelerator, "clip_grad_norm_", _norm)
    trainer.train()
    return recorder


def _norm(_parameters: Any, limit: float, *_: Any, **__: Any) -> str:
    return "norm" if math.isinf(limit) else "clip"


def step(*, batches: int, collated: int, norm: tuple[str, ...]) -> list[str]:
    """What one step of ``batches`` micro-batches is expected to be, in order."""
    return [
        "get_batch_samples",
        *["collate"] * collated,
        "on_step_begin",
        *[call for _ in range(batches - 1) for call in (*MICRO_BATCH, "on_substep_end")],
        *(*MICRO_BATCH, *norm),
        *("on_pre_optimizer_step", "optimizer.step", "on_optimizer_step"),
        *("scheduler.step", "zero_grad", "on_step_end", "on_log"),
    ]


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("clip", [1.0, 0.0])
def test_the_order_within_a_step(tmp_path: Path, clip: float, accumulation: int) -> None:
    """Given clipping or none, and one or two micro-batches, when two steps are trained, then the order is this.

    All batches of a step are fetched before it begins, and the data loader is one batch ahead: whatever reading data
    draws from the random generators, it has drawn for the first batch of the next step, too, when a step begins.
    """
    recorder = record(tmp_path, max_grad_norm=clip, gradient_accumulation_steps=accumulation)
    norm = ("clip",) if clip else ("norm",) if NORM_WITHOUT_CLIPPING else ()
    assert recorder.calls == [
        *("zero_grad", "on_train_begin", "on_epoch_begin"),
        *step(batches=accumulation, collated=accumulation + 1, norm=norm),
        *step(batches=accumulation, collated=accumulation, norm=norm),
        *("on_epoch_end", "on_log", "on_train_end"),
    ]


def test_the_step_is_counted_after_the_update(tmp_path: Path) -> None:
    """Given two steps, when global_step is read at each event, then it counts up between zero_grad and on_step_end."""
    recorder = record(tmp_path)
    counted = [(name, at) for name, at in zip(recorder.calls, recorder.steps, strict=True) if name in COUNTED]
    assert counted == [
        *[("zero_grad", 0), ("on_step_begin", 0), ("on_pre_optimizer_step", 0), ("on_optimizer_step", 0)],
        *[("zero_grad", 0), ("on_step_end", 1)],
        *[("on_step_begin", 1), ("on_pre_optimizer_step", 1), ("on_optimizer_step", 1)],
        *[("zero_grad", 1), ("on_step_end", 2)],
    ]


def test_gradients_live_from_backward_to_zero_grad(tmp_path: Path) -> None:
    """Given two micro-batches a step, when gradients are looked for at each event, then there are none at its ends."""
    recorder = record(tmp_path, gradient_accumulation_steps=2)
    held = {name: set[bool]() for name in recorder.calls}
    for name, there in zip(recorder.calls, recorder.with_gradients, strict=True):
        held[name].add(there)
    for name in ("on_substep_end", "clip", "on_pre_optimizer_step", "optimizer.step", "on_optimizer_step"):
        assert held[name] == {True}, name
    for name in ("get_batch_samples", "on_step_begin", "on_step_end", "on_log", "on_train_end"):
        assert held[name] == {False}, name


def test_a_step_is_logged_then_evaluated_then_saved(tmp_path: Path) -> None:
    """Given an evaluation and a checkpoint at each step, when a step ends, then both come after its log row."""
    recorder = record(tmp_path, eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1)
    ends = [index for index, name in enumerate(recorder.calls) if name == "on_step_end"]
    for end in ends:
        after = [name for name in recorder.calls[end:] if name.startswith("on_")][:5]
        assert after == ["on_step_end", "on_log", "on_log", "on_evaluate", "on_save"]
    assert len(ends) == 2
