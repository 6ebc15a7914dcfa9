"""Trainers that do something wrong at a step, or all the time, the way it happens to people."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any, Self

import torch
from transformers import Trainer, get_scheduler

from benchmarks.diagnosis.recorder import PlainRecorder

_MIB = 1 << 20


class _Configured(Trainer):  # type: ignore[misc] # transformers is Any to mypy
    """A trainer whose class carries what it does wrong, so that it is built like any other."""

    @classmethod
    def _with(cls, **settings: Any) -> type[Self]:
        # The class keeps its name: telemetry records it, and it must not say what is wrong.
        return type("Trainer", (cls,), settings)


class NanBatch(_Configured):
    """Trains one step on hidden states that are not a number."""

    step = 0

    @classmethod
    def at(cls, step: int) -> type[Self]:
        """Do so at this step."""
        return cls._with(step=step)

    def training_step(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Train on one micro-batch."""
        if self.state.global_step + 1 != self.step:
            return super().training_step(model, *args, **kwargs)
        embeddings = model.get_input_embeddings()
        hook = embeddings.register_forward_hook(lambda *call: call[-1] * float("nan"))
        try:
            return super().training_step(model, *args, **kwargs)
        finally:
            hook.remove()


class BadBatches(_Configured):
    """Trains a few steps on wrong answers, or on random words."""

    steps = range(0)
    garbled = False

    @classmethod
    def at(cls, step: int, steps: int, *, garbled: bool) -> type[Self]:
        """Do so from this step on, for so many steps."""
        return cls._with(steps=range(step, step + steps), garbled=garbled)

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Train on one micro-batch."""
        if self.state.global_step + 1 in self.steps:
            inputs = inputs | (garbled if self.garbled else mislabelled)(inputs, model.config)
        return super().training_step(model, inputs, *args, **kwargs)


def mislabelled(inputs: dict[str, Any], config: Any) -> dict[str, Any]:
    """Labels of a batch with another answer in place of each."""
    labels = inputs["labels"]
    if labels.dim() == 1:
        return {"labels": (labels + 1) % config.num_labels}
    wrong = 4 + (labels + 7) % (config.vocab_size - 4)  # the first four tokens are marks
    return {"labels": torch.where(labels >= 0, wrong, labels)}


def garbled(inputs: dict[str, Any], config: Any) -> dict[str, Any]:
    """Inputs of a batch with other words in place of all, and labels with other answers."""
    ids = inputs["input_ids"]
    return {"input_ids": 4 + (ids * 31 + 11) % (config.vocab_size - 4)} | mislabelled(inputs, config)


class OutOfMemory(_Configured):
    """Finds no memory for one step."""

    step = 0
    on_host = False

    @classmethod
    def at(cls, step: int, *, on_host: bool) -> type[Self]:
        """Fail at this step."""
        return cls._with(step=step, on_host=on_host)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Train on one micro-batch.

        Raises:
            OutOfMemoryError: As torch raises it when a GPU is full.
            RuntimeError: What torch's CPU allocator raises, really.
        """
        if self.state.global_step + 1 == self.step:
            if self.on_host:
                torch.empty(1 << 50, dtype=torch.uint8)
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 1.96 GiB. GPU 0 has a total capacity of 23.68 GiB of which "
                "1.12 GiB is free. Including non-PyTorch memory, this process has 22.55 GiB memory in use."
            )
        return super().training_step(*args, **kwargs)


class WaitingTrainer(_Configured):
    """Waits before each step, as for data or for a device that is larger than this machine."""

    waits: tuple[float, ...] = ()

    @classmethod
    def of(cls, waits: Sequence[float]) -> type[Self]:
        """Wait so many seconds before the steps, in order."""
        return cls._with(waits=tuple(waits))

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Train on one micro-batch."""
        time.sleep(self.waits[self.state.global_step])
        return super().training_step(*args, **kwargs)


class LeakingTrainer(_Configured):
    """Keeps 1.5 MiB of each step, as a list of losses does that nobody detached."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: list[torch.Tensor] = []

    def training_step(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Train on one micro-batch."""
        loss = super().training_step(model, *args, **kwargs)
        self._kept.append(torch.ones(3 * _MIB // 8))
        if (self.state.global_step + 1) % 10 == 0:
            self._tell(model)
        return loss

    def _tell(self, model: Any) -> None:
        """Let a loop of one's own record what it holds, as it would with the figure of a device's allocator."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, PlainRecorder):
                held = itertools.chain(model.parameters(), self._kept)
                allocated = sum(tensor.numel() * tensor.element_size() for tensor in held) / _MIB
                callback.writer.metrics(
                    self.state.global_step + 1, kind="memory", metrics={"allocated_mb": round(allocated, 3)}
                )


class StaleOptimizer(_Configured):
    """Optimizes copies of the parameters, as a script does that wraps its model after it made the optimizer."""

    def create_optimizer(self, model: Any = None) -> Any:
        """Make the optimizer."""
        del model
        copies = [
            weight.detach().clone().requires_grad_() for weight in self.model.parameters() if weight.requires_grad
        ]
        self.optimizer = torch.optim.AdamW(copies, lr=self.args.learning_rate)
        return self.optimizer


class OtherSchedule(_Configured):
    """Makes another schedule than its arguments say."""

    variant = ""
    total = 0

    @classmethod
    def of(cls, variant: str, total: int = 0) -> type[Self]:
        """Be constant, over after `half`, advance once `per_epoch`, or be made for a `total` of steps."""
        return cls._with(variant=variant, total=total)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Make the schedule."""
        name = "constant" if self.variant == "constant" else self.args.lr_scheduler_type
        steps = {"half": num_training_steps // 2, "total": self.total}.get(self.variant, num_training_steps)
        schedule = get_scheduler(
            name,
            optimizer=optimizer if optimizer is not None else self.optimizer,
            num_warmup_steps=self.args.get_warmup_steps(num_training_steps),
            num_training_steps=steps,
        )
        if self.variant == "per_epoch":
            an_epoch = -(-len(self.train_dataset) // self.args.train_batch_size)
            schedule.lr_lambdas = [lambda step, inner=inner: inner(step // an_epoch) for inner in schedule.lr_lambdas]
        self.lr_scheduler = schedule
        return schedule


class ZeroLoss(_Configured):
    """Divides the summed loss by the number of labels, or by one when there is none, as many a loop does."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the mean loss of the labels, 0.0 without any."""
        del num_items_in_batch
        labels = inputs["labels"]
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        logits, wanted = outputs.logits, labels
        if labels.dim() > 1:
            logits, wanted = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        total = torch.nn.functional.cross_entropy(logits, wanted, ignore_index=-100, reduction="sum")
        loss = total / (wanted != -100).sum().clamp(min=1)
        return (loss, outputs) if return_outputs else loss
