"""The state of a loop whose schedule nobody has described: does it move with the updates, or with the epochs?

A dropped update did not happen, so a schedule that moves with every update is set back by one. A schedule that moves
with the epochs, or not at all, stays where the loop has put it: an epoch with a dropped batch is over all the same.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from typing import Any, Final

import torch

from gradience_emit.guard.state import Hold, TrainingState

__all__ = ["LoopState"]

_REMEMBERED: Final = 16
_SCHEDULED: Final = ("lr", "momentum", "betas")
"""Options of a parameter group that torch's schedules set; the others are the optimizer's own."""


class LoopState(TrainingState):
    """A training's state, with a schedule that is watched.

    The schedule moves with the updates when it moved after more than half of the last 16; before the first is known it
    is taken to. That is told from its ``last_epoch``, or its whole state where it has none; without a schedule, from
    the learning rates, which the loop may set itself.
    """

    def __init__(self, model: Any, optimizer: Any, scheduler: Any = None, scaler: Any = None) -> None:
        super().__init__(model, optimizer, scheduler, scaler)
        self._inner_scheduler = getattr(scheduler, "scheduler", scheduler)  # inside accelerate's wrapper
        trained = {id(parameter) for parameter in self.parameters}
        self._frozen: list[Any] = [p for p in model.parameters() if id(p) not in trained]
        self._moves: deque[bool] = deque(maxlen=_REMEMBERED)
        self._place: object = None

    @property
    def moves_with_updates(self) -> bool:
        """Whether the schedule moves with every update, as far as is known."""
        return 2 * sum(self._moves) > len(self._moves) or not self._moves

    def note_place(self) -> None:
        """An update is over, and the schedule has not moved yet."""
        self._place = self._where()

    def compare_place(self) -> None:
        """The next step begins: whether the schedule has moved since `note_place`."""
        self._moves.append(self._where() != self._place)

    def release(self, hold: Hold) -> None:
        """See `Restorable.release`; a schedule that does not move with the updates is left where it is."""
        if not self.moves_with_updates:
            now = self.hold()
            groups = [
                {**held, **{name: current[name] for name in _SCHEDULED if name in current}}
                for held, current in zip(hold.groups, now.groups, strict=True)
            ]
            hold = replace(hold, groups=groups, scheduler=now.scheduler)
        super().release(hold)

    def drop_gradients(self) -> None:
        """See `Restorable.drop_gradients`.

        A frozen parameter can have a gradient left from before it was frozen, which nobody clears. A loop that clips
        the gradients of the whole model has made it NaN by now, and would make every later one NaN with it.
        """
        super().drop_gradients()
        for parameter in self._frozen:
            if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
                parameter.grad = None

    def learning_rates(self) -> list[Any]:
        """The learning rates of the parameter groups; numbers or tensors, as they are."""
        return [group["lr"] for group in self._optimizer.param_groups]

    def foreign_gradients(self) -> int:
        """How many parameters have a gradient, but are not in the optimizer."""
        owned = {id(p) for group in self._optimizer.param_groups for p in group["params"]}
        return sum(p.grad is not None and id(p) not in owned for p in self.parameters)

    def unscaled_norm(self, scale: Any) -> torch.Tensor | None:
        """L2 norm of all gradients over ``scale``, which they still carry; None without any."""
        norm = self.gradient_norm()
        if norm is None or math.isfinite(float(norm)):
            return None if norm is None else norm / scale
        # a large scale can carry the squares of finite gradients past the largest number
        return torch.nn.utils.get_total_norm([p.grad / scale for p in self.parameters if p.grad is not None])

    def has_gradient(self) -> bool:
        """Whether a parameter has a gradient."""
        return any(p.grad is not None for p in self.parameters)

    def _where(self) -> object:
        scheduler = self._inner_scheduler
        if scheduler is None:
            return [float(group["lr"]) for group in self._optimizer.param_groups]
        return scheduler.last_epoch if hasattr(scheduler, "last_epoch") else repr(scheduler.state_dict())
