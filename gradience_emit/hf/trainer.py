"""Reaches the trainer that a callback belongs to, which transformers does not hand out.

Both ways are kept in this module: finding the trainer through the call stack, and standing in for one of its methods.
"""

from __future__ import annotations

import inspect
import sys
import types
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar, Protocol, Self

__all__ = ["MethodHook", "NormHook", "StepHook", "TrainHook", "TrainObserver", "find_trainer"]


def find_trainer(callback: object) -> Any | None:
    """The trainer that is calling ``callback`` right now; None when there is none on the stack.

    Every callback event is fired from a method of the trainer, so the first frame outwards whose ``self`` is a
    `transformers.Trainer` (or a subclass, such as TRL's) with this callback among its callbacks is the one. The search
    is done when a trainer is built and at the few events that begin something, never per step.
    """
    trainer_class = getattr(sys.modules.get("transformers.trainer"), "Trainer", None)
    if trainer_class is None:
        return None
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        if "self" in frame.f_code.co_varnames:
            candidate = frame.f_locals.get("self")
            if isinstance(candidate, trainer_class) and _has(candidate, callback):
                return candidate
        frame = frame.f_back
    return None


def _own(owner: Any, name: str) -> Any:
    """An attribute of the object itself, not of its class; None when it has none of that name."""
    attributes: dict[str, Any] = owner.__dict__
    return attributes.get(name)


def _has(trainer: Any, callback: object) -> bool:
    handler = getattr(trainer, "callback_handler", None)
    return any(known is callback for known in getattr(handler, "callbacks", ()))


class MethodHook:
    """Stands in for the method `method` of ``owner``, as an attribute of that one object.

    It holds ``owner`` and ``observer`` weakly, so that a trainer is freed as early as without the hook; it can be
    pickled and deep-copied with its owner; and a hook set over or under it by somebody else keeps working, whichever
    is removed first.

    Attributes:
        beneath: what ``owner`` had as its own attribute before; None when that was the method of its class.
        active: whether the hook was not removed yet.
    """

    method: ClassVar[str]
    """The name of the method."""

    def __init__(self, owner: Any, observer: Any) -> None:
        name = self.method
        self._owner: weakref.ref[Any] = weakref.ref(owner)
        self._observer: weakref.ref[Any] = weakref.ref(observer)
        self.beneath: Callable[..., Any] | None = _own(owner, name)
        self.active = True
        self.__doc__ = self._original.__doc__
        setattr(owner, name, self)

    @property
    def __signature__(self) -> inspect.Signature:
        """The signature of the method, for those who look before they call."""
        return inspect.signature(self._original)

    @property
    def _original(self) -> Callable[..., Any]:
        if self.beneath is not None:
            return self.beneath
        owner: Any = self._owner()
        if owner is None:
            raise ReferenceError(f"the trainer of this {self.method}() does not exist any more")
        return types.MethodType(getattr(owner.__class__, self.method), owner)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method itself."""
        return self._original(*args, **kwargs)

    @classmethod
    def on(cls, owner: Any, observer: object) -> Self | None:
        """The active hook of this class that ``observer`` has on ``owner``."""
        hook = _own(owner, cls.method)
        while isinstance(hook, MethodHook):
            if isinstance(hook, cls) and hook.active and hook.reports_to(observer):
                return hook
            hook = hook.beneath
        return None

    def reports_to(self, observer: object) -> bool:
        """Whether ``observer`` is the one this hook was set by."""
        return self._observer() is observer

    def remove(self) -> None:
        """Take the hook away; under a hook of somebody else it stays as a plain passage."""
        self.active = False
        owner = self._owner()
        if owner is None:
            return
        top = _own(owner, self.method)
        while isinstance(top, MethodHook) and not top.active:
            if top.beneath is None:
                delattr(owner, self.method)
            else:
                setattr(owner, self.method, top.beneath)
            top = _own(owner, self.method)

    @property
    def _listener(self) -> Any | None:
        """The observer, as long as the hook is active and its trainer still has it as a callback."""
        owner, observer = self._owner(), self._observer()
        return observer if self.active and owner is not None and _has(owner, observer) else None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_owner": self._owner(), "_observer": self._observer()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # a pickled observer that was gone already stays gone
        gone = state["_observer"] is None
        references = {
            key: weakref.ref(state[key] if state[key] is not None else self) for key in ("_owner", "_observer")
        }
        vars(self).update(state | references | ({"active": False} if gone else {}))


class TrainObserver(Protocol):
    """What `TrainHook` tells; none of these may raise."""

    def train_called(self, trainer: Any) -> None:
        """``trainer.train`` was called."""

    def train_failed(self, trainer: Any, error: BaseException) -> None:
        """An exception is leaving ``trainer.train``."""

    def train_left(self, trainer: Any) -> None:
        """``trainer.train`` is over, whichever way."""


class TrainHook(MethodHook):
    """Around ``trainer.train``: tells its `TrainObserver` when it is called and how it is left.

    It stays for the life of the trainer, so that a second ``train()`` is seen too. Until the trainer is first used it
    also keeps it, since in ``Trainer(...).train()`` nothing else does (a bound method would).

    Attributes:
        own_optimizer: whether the user handed the trainer an optimizer, or a class for one; None when not known.
        own_scheduler: the same for the learning-rate scheduler.
    """

    method = "train"

    def __init__(self, trainer: Any, observer: TrainObserver, *, at_construction: bool) -> None:
        super().__init__(trainer, observer)
        self._kept: Any = trainer
        self.own_optimizer: bool | None = None
        self.own_scheduler: bool | None = None
        if at_construction:  # later the trainer has made its own, and the two cannot be told apart
            chosen = getattr(trainer, "optimizer_cls_and_kwargs", None)
            self.own_optimizer = getattr(trainer, "optimizer", None) is not None or chosen is not None
            self.own_scheduler = getattr(trainer, "lr_scheduler", None) is not None

    def let_go(self) -> None:
        """The trainer is in use: somebody else keeps it, and it shall be freed when they let go."""
        self._kept = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Train; an exception is told and goes on unchanged."""
        trainer, observer, train = self._owner(), self._listener, self._original
        self.let_go()
        if observer is None:
            return train(*args, **kwargs)
        observer.train_called(trainer)
        try:
            return train(*args, **kwargs)
        except BaseException as error:
            observer.train_failed(trainer, error)
            raise
        finally:
            observer.train_left(trainer)


class StepHook(MethodHook):
    """Around ``trainer.training_step``: tells the observer each micro-batch's loss, or the exception it ended in."""

    method = "training_step"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Train on one micro-batch."""
        observer = self._listener
        if observer is None:
            return self._original(*args, **kwargs)
        try:
            loss = self._original(*args, **kwargs)
        except Exception as error:
            observer.batch_failed(error)
            raise
        observer.batch_trained(loss)
        return loss


class NormHook(MethodHook):
    """Around ``trainer.accelerator.clip_grad_norm_``: tells the observer the gradient norm it returns.

    The trainer calls it before every optimizer step, so the norm need not be taken twice: when it clips, and from
    transformers 5.3 on also when it does not (with an infinite limit).
    """

    method = "clip_grad_norm_"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Clip."""
        norm = self._original(*args, **kwargs)
        observer = self._observer()
        if self.active and observer is not None:
            observer.norm_computed(norm)
        return norm
