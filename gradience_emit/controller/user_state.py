"""A training's state behind the user's own functions, for `GradienceController.initialize`."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, cast

import torch

from gradience_emit.guard.copies import are_finite
from gradience_emit.guard.state import Hold, Trained

__all__ = ["UserState"]

_MOST_NAMES: Final = 16
_logger = logging.getLogger("gradience_emit")


class UserState(Trained):
    """What the user's functions save and load, with the learning rate as it was when each copy was saved.

    Args:
        model: the model, whose trainable weights and running statistics are checked and whose gradients are dropped.
        save_fn: returns a copy of the state, of any kind.
        load_fn: restores what ``save_fn`` returned.
        get_lr: the learning rate now; None when it is not to be lowered.
        set_lr: sets it.
    """

    def __init__(
        self,
        model: Any,
        save_fn: Callable[[], Any],
        load_fn: Callable[[Any], None],
        get_lr: Callable[[], float] | None = None,
        set_lr: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__((p for p in model.parameters() if p.requires_grad), model)
        self._save, self._load, self._get_lr, self._set_lr = save_fn, load_fn, get_lr, set_lr
        self._factor = 1.0
        self._names: tuple[str, ...] = ()
        self._places: set[int] = set()
        self._warned = False

    def save(self, into: Any) -> Any:
        """See `Restorable.save`: what the user's function saves, the learning rate, and the factor on it."""
        del into
        saved = self._save()
        self._names = _names_in(saved)
        self._warn_of_live_tensors(saved)
        return saved, self.learning_rate(), self._factor

    def save_sound(self, into: Any) -> Any:
        """See `Restorable.save_sound`."""
        return self.save(into) if self.is_finite() else None

    def load(self, saved: Any) -> None:
        """See `Restorable.load`."""
        state, rate, factor = saved
        # an optimizer's load_state_dict adopts the tensors that it is given: the next update would change the snapshot
        self._load(copy.deepcopy(state))
        if rate is not None and rate == self.learning_rate():
            self._factor = factor  # the user's function has restored the learning rate, and a lowered one with it

    def size(self, saved: Any) -> int:
        """Bytes of the tensors in it, as far as they lie in dicts, lists and tuples."""
        return sum(tensor.numel() * tensor.element_size() for tensor in _tensors_in(saved))

    def is_finite(self) -> bool:
        """Whether trainable weights and running statistics are finite; the optimizer is not seen."""
        return are_finite([*self.parameters, *self._statistics])

    def hold(self) -> Hold:
        """Nothing: the schedule is the user's."""
        return Hold()

    def release(self, hold: Hold) -> None:
        """Nothing."""
        del hold

    def scale_lr(self, factor: float) -> Callable[[], None]:
        """Set the learning rate through the user's function, once for each new factor and for good."""
        if self._get_lr is not None and self._set_lr is not None and factor != self._factor:
            self._set_lr(self._get_lr() * factor / self._factor)
            self._factor = factor
        return lambda: None

    def parts(self) -> tuple[str, ...]:
        """What is restored, as far as it is known: the names of what the user's function saved together."""
        return ("load_fn", *self._names, "rng")

    def learning_rate(self) -> float | None:
        """The learning rate; None when unknown."""
        return None if self._get_lr is None else float(self._get_lr())

    def refuse_live_tensors(self) -> None:
        """Save once, and look at what was saved.

        Raises:
            ValueError: it shares memory with the model's weights: it would change with them.
        """
        saved = self._save()
        self._names = _names_in(saved)
        live = {p.data_ptr() for p in self.parameters if p.numel()}
        shared = sum(tensor.data_ptr() in live for tensor in _tensors_in(saved))
        if shared:
            raise ValueError(
                f"save_fn must return a copy: {shared} of its tensors are the model's own weights and change with "
                "them; use copy.deepcopy(model.state_dict()), and the same for the optimizer"
            )

    def _warn_of_live_tensors(self, saved: Any) -> None:
        """Two snapshots that lie in the same memory are no snapshots; the one before is still held here."""
        places = {tensor.data_ptr() for tensor in _tensors_in(saved) if tensor.numel()}
        shared = len(places & self._places)
        self._places = places
        if shared and not self._warned:
            self._warned = True
            _logger.warning(
                "save_fn returned %d tensors that it had returned before: unless they never change, what it saves must "
                "be copies, those of the optimizer's state too",
                shared,
            )


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in dicts, lists and tuples."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        members: Iterable[Any] = (
            cast("Mapping[Any, Any]", value).values() if isinstance(value, Mapping) else cast("list[Any]", value)
        )
        for member in members:
            yield from _tensors_in(member)


def _names_in(saved: Any) -> tuple[str, ...]:
    """The names under which a dict holds something other than tensors, such as ``optimizer``; not weight by weight."""
    if not isinstance(saved, Mapping):
        return ()
    members = cast("Mapping[Any, Any]", saved).items()
    return tuple(str(name) for name, value in members if not isinstance(value, torch.Tensor))[:_MOST_NAMES]
