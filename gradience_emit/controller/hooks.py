"""How a loop is listened to: torch's own hooks on the model and the optimizer, and the scaler's ``step``.

A gradient scaler has no hooks, and when a gradient overflowed it does not call the optimizer at all. Its ``step`` is
therefore wrapped, on that one object and for the time of the watch.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch

from gradience_emit.boundary import attempt
from gradience_emit.controller.updates import Updates
from gradience_emit.guard.refusal import GuardUnsupportedError

__all__ = ["ForwardHooks", "OptimizerHooks", "innermost"]


def innermost(optimizer: Any) -> Any:
    """The optimizer inside a wrapper such as accelerate's; it is the one whose step counts, and that has the hooks."""
    while hasattr(optimizer, "optimizer") and hasattr(optimizer.optimizer, "param_groups"):
        optimizer = optimizer.optimizer
    return optimizer


class _Hook:
    """Hands a forward pass on to whoever listens. A copy of the model, or a pickled one, takes none along."""

    def __init__(self, listener: Callable[..., None] | None = None) -> None:
        compiler: Any = torch.compiler
        self._listener = None if listener is None else weakref.WeakMethod(listener)
        self._tell = compiler.disable(
            self._tell_eagerly
        )  # torch.compile would trace it, and compile again at every step

    def __call__(self, *event: Any) -> None:
        self._tell(*event)

    def _tell_eagerly(self, *event: Any) -> None:
        listener = None if self._listener is None else self._listener()
        if listener is not None and torch.is_grad_enabled():
            listener(*event)

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()


class ForwardHooks:
    """Tells of the forward passes of a model that record gradients, and of the losses that it returns.

    The model holds them weakly: a controller that nobody holds any more leaves nothing that listens.

    Args:
        model: the model, as the loop calls it.
        updates: is told.
        halt: called after each beginning, and may raise to end the loop.
        report_fault: told about a fault in here.
    """

    def __init__(
        self, model: Any, updates: Updates, halt: Callable[[], None], report_fault: Callable[[Exception, str], None]
    ) -> None:
        self._updates, self._halt, self._report = updates, halt, report_fault
        self._handles = [
            model.register_forward_pre_hook(_Hook(self._began), prepend=True),
            model.register_forward_hook(_Hook(self._ended)),
        ]

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def _began(self, module: Any, args: Any) -> None:
        del args
        attempt(lambda: self._updates.forward_began(training=bool(module.training)), self._failed)
        self._halt()

    def _ended(self, module: Any, args: Any, output: Any) -> None:
        del module, args
        attempt(lambda: _tell_loss(self._updates, output), self._failed)

    def _failed(self, fault: Exception) -> None:
        self._report(fault, "a forward pass")


def _tell_loss(updates: Updates, output: Any) -> None:
    if isinstance(output, Mapping):
        loss = cast("Mapping[str, Any]", output).get("loss")
    else:
        loss = getattr(output, "loss", None)
    if isinstance(loss, torch.Tensor) and loss.requires_grad:
        updates.saw_loss(loss)


class OptimizerHooks:
    """Tells of an optimizer's steps, before and after, and of those that its gradient scaler leaves out.

    Args:
        optimizer: the optimizer itself, without a wrapper.
        scaler: its gradient scaler; None without one.
        updates: is told.
        halt: called after each decision, and may raise to end the loop.
        clipped: whether the loop clips its gradients.
    """

    def __init__(
        self, optimizer: Any, scaler: Any, updates: Updates, halt: Callable[[], None], *, clipped: bool
    ) -> None:
        self._optimizer, self._updates, self._halt, self._clipped = optimizer, updates, halt, clipped
        self._handles = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]
        self._steps = 0
        self._scaler = scaler
        if scaler is not None:
            self._scaler_step = scaler.step
            scaler.step = self._step_with_scaler

    def remove(self) -> None:
        """Take the hooks off, and give the scaler its method back."""
        for handle in self._handles:
            handle.remove()
        if self._scaler is not None:
            del self._scaler.step

    def _before_step(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._steps += 1
        if any(callable(argument) for argument in (*args[1:], *kwargs.values())):
            raise GuardUnsupportedError("an optimizer step with a closure, which computes the gradients inside it")
        # with a fused optimizer the scaler does not divide the gradients; the optimizer does, or leaves the step out
        overflow, scale = getattr(optimizer, "found_inf", None), getattr(optimizer, "grad_scale", None)
        if overflow is not None and float(overflow):
            self._updates.before_update(clipped=self._clipped, overflow=True)
        else:
            self._updates.before_update(clipped=self._clipped, scale=scale)
        self._halt()

    def _after_step(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        del optimizer, args, kwargs
        self._updates.updated()

    def _step_with_scaler(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        steps = self._steps
        result = self._scaler_step(optimizer, *args, **kwargs)
        if innermost(optimizer) is self._optimizer and self._steps == steps:
            self._updates.before_update(clipped=self._clipped, overflow=True)
            self._updates.updated()
            self._halt()
        return result
