"""Faults put into a training on purpose, to see what becomes of it: NaN in a loss, a gradient or a weight, explosions.

Each is made where it happens to people: the loss as the model returns it, the gradient as the backward pass hands it
on, a weight before the forward pass. The trainer, its clipping and its optimizer then do with it what they always do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from transformers import TrainerCallback

__all__ = ["Fault", "FaultInjection", "FaultKind", "striking"]


class FaultKind(StrEnum):
    """What goes wrong."""

    NAN_LOSS = "nan_loss"
    """The loss is NaN, and so is every gradient that follows from it: a batch that should not be there."""
    NAN_GRADIENT = "nan_gradient"
    """One entry of one gradient is NaN, under a finite loss."""
    NAN_WEIGHTS = "nan_weights"
    """One entry of one trainable weight is NaN before the forward pass: damage that no gradient shows in time."""
    EXPLOSION = "explosion"
    """Every gradient is `factor` times what it should be, under an ordinary loss."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault and the optimizer steps it strikes.

    Attributes:
        kind: What goes wrong.
        steps: Optimizer steps, counted from 1; all micro-batches of a step are struck.
        persistent: Whether every step from the first of them on is struck.
        factor: Of an explosion, the factor on the gradient, finite and above 0; nothing else uses it.

    Raises:
        ValueError: There is no step, a step is below 1, or the factor is out of range.
    """

    kind: FaultKind
    steps: tuple[int, ...]
    persistent: bool = False
    factor: float = 1e4

    def __post_init__(self) -> None:
        if not self.steps or min(self.steps) < 1:
            raise ValueError(f"a fault needs steps of at least 1, not {self.steps}")
        if not 0 < self.factor < math.inf:
            raise ValueError(f"factor must be finite and above 0, not {self.factor!r}")

    def strikes(self, step: int) -> bool:
        """Whether this optimizer step is struck."""
        return step in self.steps or (self.persistent and step > min(self.steps))


@contextmanager
def striking(model: Any, fault: Fault) -> Generator[None]:
    """Let the fault strike the forward and backward passes inside the block; nothing of it stays on the model.

    Only a NaN in a weight stays, as it would. Works in any training loop::

        with striking(model, fault) if fault.strikes(step) else nullcontext():
            model(**batch).loss.backward()

    Args:
        model: The model that is called, whose output has a ``loss`` (or ``logits``, when the loss is computed
            elsewhere). For a NaN in a gradient or a weight it is the first trainable parameter that has it.
        fault: The fault; its steps are not looked at here.

    Raises:
        ValueError: The model has no trainable parameter.
    """
    trained: list[Any] = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("the model has no trainable parameter to strike")
    with ExitStack() as hooks:
        if fault.kind is FaultKind.NAN_WEIGHTS:
            with torch.no_grad():
                _put_nan(trained[0])
        elif fault.kind is FaultKind.NAN_LOSS:
            hooks.callback(model.register_forward_hook(_spoil_output).remove)
        elif fault.kind is FaultKind.NAN_GRADIENT:
            hooks.callback(trained[0].register_hook(_with_nan).remove)
        else:
            for parameter in trained:
                hooks.callback(parameter.register_hook(_times(fault.factor)).remove)
        yield


class FaultInjection(TrainerCallback):  # type: ignore[misc] # transformers is Any to mypy
    """Makes faults strike the training of a `transformers.Trainer`: ``callbacks=[FaultInjection(fault), ...]``.

    Steps are the trainer's: a step whose update was dropped counts.

    Args:
        *faults: What strikes when.

    Attributes:
        struck: The steps that were struck, in order.
    """

    def __init__(self, *faults: Fault) -> None:
        self._faults = faults
        self._active = ExitStack()
        self.struck: list[int] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Strike the step that begins."""
        del args, control
        step = state.global_step + 1
        for fault in self._faults:
            if fault.strikes(step):
                self._active.enter_context(striking(kwargs["model"], fault))
                self.struck.append(step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The step is over."""
        del args, state, control, kwargs
        self._active.close()


def _put_nan(tensor: torch.Tensor) -> None:
    tensor[(0,) * tensor.ndim] = math.nan


def _with_nan(gradient: torch.Tensor) -> torch.Tensor:
    spoiled = gradient.clone()
    _put_nan(spoiled)
    return spoiled


def _times(factor: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda gradient: gradient * factor


def _spoil_output(module: Any, inputs: Any, output: Any) -> Any:
    """The model's output with a loss of NaN."""
    del module, inputs
    if isinstance(output, tuple):
        return (output[0] * math.nan, *output[1:])
    name = "loss" if output.get("loss") is not None else "logits"
    output[name] = output[name] * math.nan
    return output
