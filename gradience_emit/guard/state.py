"""The state of a training: what an optimizer step changes, saved, restored, checked and held."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage] - the base of all that keep statistics

from gradience_emit.guard.copies import Copies, Layout, are_finite, in_place, total_norm, with_tensors
from gradience_emit.guard.randomness import RandomState

__all__ = ["Hold", "Restorable", "SavedState", "StepStart", "Trained", "TrainingState"]

_Saved = TypeVar("_Saved")


@dataclass(frozen=True, slots=True)
class StepStart:
    """What a forward pass changes by itself, as it was before it.

    Attributes:
        random: the random number generators.
        statistics: running statistics of normalisation layers, in the order of the state's own list.
    """

    random: RandomState
    statistics: tuple[torch.Tensor, ...] = ()


class Restorable(Protocol[_Saved]):
    """A training's state, as the guard sees it."""

    def start(self) -> StepStart:
        """What the coming forward pass may change by itself."""
        ...

    def restart(self, start: StepStart) -> None:
        """Set that back."""
        ...

    def save(self, into: _Saved | None) -> _Saved:
        """A copy of the state; into the memory of an older one where there is one."""
        ...

    def save_sound(self, into: _Saved | None) -> _Saved | None:
        """The same where the state is finite in every entry; None where it is not, and ``into`` may be overwritten."""
        ...

    def load(self, saved: _Saved) -> None:
        """Restore a copy."""
        ...

    def size(self, saved: _Saved) -> int:
        """Bytes that a copy takes."""
        ...

    def is_finite(self) -> bool:
        """Whether every weight and every entry of the optimizer's state is finite."""
        ...

    def gradient_norm(self) -> torch.Tensor | None:
        """L2 norm of all gradients; None without any."""
        ...

    def drop_gradients(self) -> None:
        """Leave no gradient to apply."""
        ...

    def hold(self) -> Hold:
        """Options, schedule and scaler as they are."""
        ...

    def release(self, hold: Hold) -> None:
        """Set them back: the step that has moved them did not count."""
        ...

    def scale_lr(self, factor: float) -> Callable[[], None]:
        """Multiply the learning rates by ``factor``; the returned function sets them back."""
        ...

    def parts(self) -> tuple[str, ...]:
        """What `load` restores, by name."""
        ...


@dataclass(frozen=True, slots=True)
class Hold:
    """Options of the parameter groups, the schedule and the gradient scaler at one moment."""

    groups: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    scheduler: Any = None
    scaler: Any = None


@dataclass(slots=True)
class SavedState:
    """A copy of a training's state.

    Attributes:
        copies: copies of its tensors.
        hold: options, schedule and scaler.
    """

    copies: Copies
    hold: Hold = field(default_factory=Hold)


class Trained:
    """What of a training is known without its optimizer: its trainable tensors, and the statistics that it keeps.

    Args:
        parameters: the trainable tensors.
        model: the model, whose normalisation layers may keep running statistics.
    """

    def __init__(self, parameters: Iterable[Any], model: Any) -> None:
        self.parameters: list[Any] = list(parameters)
        self._statistics = list(_running_statistics(model))

    def start(self) -> StepStart:
        """See `Restorable.start`."""
        return StepStart(RandomState.capture(), tuple(buffer.clone() for buffer in self._statistics))

    def restart(self, start: StepStart) -> None:
        """See `Restorable.restart`."""
        start.random.restore()
        for buffer, value in zip(self._statistics, start.statistics, strict=True):
            buffer.copy_(value)

    def gradient_norm(self) -> torch.Tensor | None:
        """See `Restorable.gradient_norm`."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        return total_norm(gradients) if gradients else None

    def drop_gradients(self) -> None:
        """Set every ``grad`` to None: a gradient of zeros would still decay the moments and the weights."""
        for parameter in self.parameters:
            parameter.grad = None


class TrainingState(Trained):
    """Every trainable tensor, the optimizer's state, the schedule and the gradient scaler of one training.

    Trainable is what has ``requires_grad`` or is in the optimizer: LoRA factors, DoRA magnitudes, ``modules_to_save``.

    Args:
        model: the model, wrapped or not.
        optimizer: a `torch.optim.Optimizer`, or a wrapper with its ``state`` and ``param_groups``.
        scheduler: its learning-rate scheduler; None when there is none.
        scaler: its gradient scaler; None when there is none.
    """

    def __init__(self, model: Any, optimizer: Any, scheduler: Any = None, scaler: Any = None) -> None:
        grouped: Iterable[Any] = itertools.chain.from_iterable(group["params"] for group in optimizer.param_groups)
        trained: Iterable[Any] = (parameter for parameter in model.parameters() if parameter.requires_grad)
        super().__init__({id(p): p for p in itertools.chain(trained, grouped)}.values(), model)
        self._optimizer, self._scheduler = optimizer, scheduler
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self._index = {id(parameter): number for number, parameter in enumerate(self.parameters)}
        self._layout: Layout | None = None

    @torch.no_grad()
    def save(self, into: SavedState | None) -> SavedState:
        """A copy of the state. Copies from a GPU are started, not waited for: the device keeps their order."""
        layout = self._layout_now()
        saved = into if into is not None and into.copies.fits(layout) else SavedState(Copies(layout))
        saved.copies.fill()
        saved.hold = self.hold()
        return saved

    def save_sound(self, into: SavedState | None) -> SavedState | None:
        """See `Restorable.save_sound`. On the CPU it is the copy that is looked at: it is in the caches."""
        if not all(parameter.device.type == "cpu" for parameter in self.parameters):
            return self.save(into) if self.is_finite() else None
        saved = self.save(into)
        sound = saved.copies.are_finite() if saved.copies.on_cpu else self.is_finite()
        return saved if sound else None

    @torch.no_grad()
    def load(self, saved: SavedState) -> None:
        """Restore a copy, in place, so that whoever holds a tensor of the state goes on holding it."""
        copies = saved.copies
        if copies.pinned:
            torch.cuda.synchronize()  # a copy may still be under way
        for number, parameter in enumerate(self.parameters):
            parameter.copy_(copies.tensors["weight", number])
        state = self._optimizer.state
        live = {self._index.get(id(key), key): entry for key, entry in state.items()}
        for owner in live.keys() - copies.layout.entries.keys():
            del state[self._owner(owner)]
        for owner, entry in copies.layout.entries.items():
            state[self._owner(owner)] = with_tensors(entry, live.get(owner), copies.tensors)
        self.release(saved.hold)

    def size(self, saved: SavedState) -> int:
        """Bytes of the copied tensors."""
        return saved.copies.size

    def is_finite(self) -> bool:
        """Whether weights and optimizer state are finite. One pass over them, and one wait for each device."""
        return are_finite(self._layout_now().checked)

    def hold(self) -> Hold:
        """See `Restorable.hold`."""
        return Hold(
            groups=[_options_of(group) for group in self._optimizer.param_groups],
            scheduler=None if self._scheduler is None else copy.deepcopy(self._scheduler.state_dict()),
            scaler=None if self._scaler is None else self._scaler.state_dict(),
        )

    def release(self, hold: Hold) -> None:
        """See `Restorable.release`."""
        if self._scheduler is not None:
            self._scheduler.load_state_dict(copy.deepcopy(hold.scheduler))
        for group, options in zip(self._optimizer.param_groups, hold.groups, strict=True):
            for name, value in _options_of(options).items():
                group[name] = in_place(value, group.get(name))
        if self._scaler is not None:
            self._scaler.load_state_dict(hold.scaler)

    def scale_lr(self, factor: float) -> Callable[[], None]:
        """See `Restorable.scale_lr`. The schedule does not see it."""
        groups: list[dict[str, Any]] = list(self._optimizer.param_groups)
        before = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = group["lr"] * factor

        def undo() -> None:
            for group, rate in zip(groups, before, strict=True):
                group["lr"] = rate

        return undo

    def parts(self) -> tuple[str, ...]:
        """See `Restorable.parts`."""
        optional = (("scheduler", self._scheduler), ("scaler", self._scaler), ("statistics", self._statistics or None))
        return ("weights", "optimizer", *(name for name, part in optional if part is not None), "rng")

    def _layout_now(self) -> Layout:
        """The tensors of the state; looked for anew when the optimizer has other ones than before."""
        state = self._optimizer.state
        if self._layout is None or not self._layout.still_holds(state):
            self._layout = Layout(self.parameters, state, self._index)
        return self._layout

    def _owner(self, owner: Any) -> Any:
        return self.parameters[owner] if type(owner) is int else owner


def _running_statistics(model: Any) -> Iterator[torch.Tensor]:
    """Buffers that a forward pass in training mode writes to: a bad batch damages them before its loss is known."""
    for module in model.modules():
        if isinstance(module, _NormBase) and module.track_running_stats:
            yield from (buffer for buffer in module.buffers(recurse=False))


def _options_of(group: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value.clone() if isinstance(value, torch.Tensor) else copy.deepcopy(value)
        for key, value in group.items()
        if key != "params"
    }
