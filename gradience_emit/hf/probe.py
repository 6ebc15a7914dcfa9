"""Counts non-finite losses and gradients on the device, so that the training step never waits for the answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["NonfiniteCounts", "NonfiniteProbe"]


@dataclass(frozen=True, slots=True)
class NonfiniteCounts:
    """Optimizer steps so far; None where nothing could be observed.

    Attributes:
        loss_steps: steps in which the loss of at least one micro-batch was NaN or infinite.
        grad_steps: steps whose gradient norm was NaN or infinite.
    """

    loss_steps: int | None = None
    grad_steps: int | None = None

    def fields(self) -> dict[str, int]:
        """``nonfinite_loss_steps`` and ``nonfinite_grad_steps``, each when it was observed."""
        named = {"nonfinite_loss_steps": self.loss_steps, "nonfinite_grad_steps": self.grad_steps}
        return {name: count for name, count in named.items() if count is not None}


class NonfiniteProbe:
    """Watches the losses and gradients of this rank.

    It sees what the model returned, whatever ``logging_nan_inf_filter`` lets the trainer log. All but `read` only
    enqueue operations on the device; `read` is the one place that waits for them.
    """

    def __init__(self) -> None:
        self._loss_mark: torch.Tensor | None = None
        self._norm_mark: torch.Tensor | None = None
        self._loss_steps: torch.Tensor | None = None
        self._grad_steps: torch.Tensor | None = None
        self._last = NonfiniteCounts()

    def saw_loss(self, loss: Any) -> None:
        """One micro-batch's loss, a tensor or a number; anything else is not observed."""
        mark = _mark(loss)
        if self._loss_mark is None or mark is None:
            self._loss_mark = self._loss_mark if mark is None else mark
        else:
            self._loss_mark.add_(mark.to(self._loss_mark.device, non_blocking=True))

    def saw_norm(self, norm: Any) -> None:
        """The gradient norm of this step, a tensor or a number, as the trainer computed it."""
        self._norm_mark = _mark(norm)

    def saw_gradients(self, optimizer: Any) -> None:
        """The gradients that ``optimizer`` is about to apply, unless their norm was seen already.

        Sharded gradients (DTensor and its like) are not observed: their norm would need a collective operation.
        """
        if self._norm_mark is None:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            if gradients and all(type(gradient) is torch.Tensor for gradient in gradients):
                self.saw_norm(torch.nn.utils.get_total_norm(gradients))

    def step_is_complete(self) -> None:
        """All micro-batches and the gradients of an optimizer step were seen."""
        self._loss_steps = _counted(self._loss_steps, self._loss_mark)
        self._grad_steps = _counted(self._grad_steps, self._norm_mark)
        self._loss_mark = self._norm_mark = None

    def read(self, *, wait: bool = True) -> NonfiniteCounts:
        """The counts, in one transfer from the device when they are on one.

        That transfer waits for the steps still running. With ``wait=False`` there is none, and counts on a device are
        those of the last reading.
        """
        counters = [counter for counter in (self._loss_steps, self._grad_steps) if counter is not None]
        if not counters or (not wait and any(counter.device.type != "cpu" for counter in counters)):
            return self._last
        together: Any = torch.stack([counter.to(counters[0].device) for counter in counters])
        values: Iterator[int] = iter(together.tolist())
        self._last = NonfiniteCounts(
            None if self._loss_steps is None else next(values), None if self._grad_steps is None else next(values)
        )
        return self._last


def _mark(value: Any) -> torch.Tensor | None:
    """0 for a finite tensor or number, NaN for any other, on its own device; None for what is neither.

    It is ``value - value``, one operation where `torch.isfinite` takes four, and marks can be added up: NaN stays.
    """
    if isinstance(value, float):
        return torch.tensor(value - value)
    if not isinstance(value, torch.Tensor) or type(value).__name__ == "DTensor":
        return None
    detached: torch.Tensor = value.detach()
    mark = detached - detached
    return mark if mark.ndim == 0 else mark.sum()


def _counted(counter: torch.Tensor | None, mark: torch.Tensor | None) -> torch.Tensor | None:
    """``counter``, made when it is first needed, plus one where ``mark`` is NaN."""
    if mark is None:
        return counter
    if counter is None:
        counter = torch.zeros((), dtype=torch.int64, device=mark.device)
    return counter.add_(mark.isnan())
