"""Which trainings the guard refuses, and the error that says so before their first step."""

from __future__ import annotations

from typing import Any

from gradience_emit.boundary import attempt

__all__ = ["GuardUnsupportedError", "unsupported"]


class GuardUnsupportedError(RuntimeError):
    """The guard was switched on for a training that it cannot guard; raised before its first update.

    Attributes:
        reason: what it does not support, and why.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"enable_guard=True: the guard does not support {reason}. "
            "Telemetry works without it, with enable_guard=False."
        )


def unsupported(model: Any, optimizer: Any, scheduler: Any = None) -> str | None:
    """What about a model, its optimizer and its schedule the guard does not support; None when it can guard them.

    Args:
        model: the model, wrapped or not.
        optimizer: the optimizer, wrapped or not.
        scheduler: the learning-rate schedule; None without one.
    """
    import torch

    if isinstance(optimizer, (list, tuple)):
        return "more than one optimizer"
    if not hasattr(optimizer, "param_groups") or not hasattr(optimizer, "state"):
        return f"the optimizer {type(optimizer).__name__}, which has no param_groups or no state"
    if isinstance(getattr(optimizer, "optimizer", optimizer), torch.optim.LBFGS):
        return "LBFGS, which computes gradients inside its step"
    return attempt(lambda: _unsaveable(model, optimizer, scheduler), lambda fault: f"this training ({fault!r})")


def _unsaveable(model: Any, optimizer: Any, scheduler: Any) -> str | None:
    from gradience_emit.guard.state import TrainingState

    state = TrainingState(model, optimizer, scheduler)
    if not state.parameters:
        return "a model without a trainable parameter"
    for parameter in state.parameters:
        if parameter.device.type in {"meta", "xla"}:
            return f"parameters on the device {parameter.device.type}"
        if hasattr(parameter, "full_tensor"):  # a DTensor
            return "sharded parameters (DTensor), of which a rank holds only a part"
    state.hold()  # a schedule that cannot be copied is found out now, and not at the first fault
    return None
