"""Copies of the tensors in a training's state: found once, copied in one go into memory that is used again."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

import torch

__all__ = [
    "Copies",
    "Kept",
    "Layout",
    "Path",
    "are_finite",
    "in_place",
    "total_norm",
    "with_tensors",
    "without_tensors",
]

Path: TypeAlias = tuple[Any, ...]
_CHECKED: Final = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
"""Types whose values are checked. The codes of a quantized state can hold a NaN that nobody sees."""
_PLAIN: Final = frozenset({torch.Tensor, torch.nn.Parameter})


@dataclass(frozen=True, slots=True)
class Kept:
    """Stands for a tensor of the optimizer's state: where its copy lies and where it belongs."""

    path: Path
    device: torch.device


@dataclass(frozen=True, slots=True)
class Wrapped:
    """Stands for a tensor that is made of others, as a quantized one is of codes and scales.

    It is one that follows torch's protocol for that, ``__tensor_flatten__`` and ``__tensor_unflatten__``.
    """

    kind: type[Any]
    inner: dict[str, Any]
    context: Any
    shape: torch.Size
    stride: tuple[int, ...]


class Layout:
    """Which tensors a state is made of now, and what is around them.

    Args:
        weights: the trainable tensors.
        state: the optimizer's state.
        index: the number of each weight by its id.

    Attributes:
        tensors: by path: ``("weight", number)`` and ``("state", owner, key, ...)``.
        entries: the optimizer's state by owner (the weight's number, or the key where it is no weight's), with `Kept`
            in place of its tensors.
        checked: the tensors that can be checked for NaN.
    """

    def __init__(self, weights: Iterable[torch.Tensor], state: Mapping[Any, Any], index: Mapping[int, int]) -> None:
        self.tensors: dict[Path, torch.Tensor] = {("weight", number): weight for number, weight in enumerate(weights)}
        self.entries: dict[Any, Any] = {}
        self._known: list[tuple[Any, dict[Any, Any], tuple[tuple[Any, Any], ...]]] = []
        self._lasts = True
        for key, entry in state.items():
            owner = index.get(id(key), key)
            self.entries[owner] = without_tensors(entry, ("state", owner), self.tensors)
            members = cast("dict[Any, Any]", entry) if isinstance(entry, dict) else {}
            self._known.append((key, members, tuple(members.items())))
            plain = isinstance(entry, dict) and all(type(value) in _PLAIN for value in members.values())
            self._lasts = self._lasts and plain
        self.checked = [t for t in self.tensors.values() if t.dtype in _CHECKED and type(t) in _PLAIN]

    def still_holds(self, state: Mapping[Any, Any]) -> bool:
        """Whether the state is made of the same tensors still, and of nothing else; False where that cannot be told."""
        if not self._lasts or len(state) != len(self._known):
            return False
        for key, entry, items in self._known:
            if state.get(key) is not entry or len(entry) != len(items):
                return False
            for name, tensor in items:
                if entry.get(name) is not tensor:
                    return False
        return True


class Copies:
    """Memory on the CPU for a copy of every tensor of a layout: one block a type, pinned for tensors of a GPU.

    A tensor of a class of its own, such as a quantized one, is cloned where it is.

    Args:
        layout: what is copied.

    Attributes:
        layout: as given.
        tensors: the copies by path.
        size: bytes.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.tensors: dict[Path, torch.Tensor] = {}
        self._blocks: list[tuple[torch.Tensor, list[torch.Tensor], dict[Path, torch.Tensor]]] = []
        groups: dict[torch.dtype, dict[Path, torch.Tensor]] = {}
        for path, tensor in layout.tensors.items():
            if type(tensor) in _PLAIN:
                groups.setdefault(tensor.dtype, {})[path] = tensor
        for dtype, group in groups.items():
            self._add_block(dtype, group)
        self._own = {path: t for path, t in layout.tensors.items() if type(t) not in _PLAIN}
        self.on_cpu = all(tensor.device.type == "cpu" for tensor in layout.tensors.values())
        self.pinned = any(block.is_pinned() for block, _, _ in self._blocks)
        own = sum(tensor.numel() * tensor.element_size() for tensor in self._own.values())
        self.size = own + sum(block.numel() * block.element_size() for block, _, _ in self._blocks)

    def _add_block(self, dtype: torch.dtype, group: Mapping[Path, torch.Tensor]) -> None:
        sources = list(group.values())
        pinned = any(tensor.is_cuda for tensor in sources)
        sizes = [tensor.numel() for tensor in sources]
        block = torch.empty(sum(sizes), dtype=dtype, device="cpu", pin_memory=pinned)
        parts: Any = torch.split_with_sizes(block, sizes)
        views = [part.view(tensor.shape) for part, tensor in zip(parts, sources, strict=True)]
        self._blocks.append((block, views, dict(group)))
        self.tensors.update(zip(group, views, strict=True))

    def fits(self, layout: Layout) -> bool:
        """Whether this is memory for the tensors of a layout, whose copy it then becomes."""
        if layout is self.layout:
            return True
        known, tensors = self.layout.tensors, layout.tensors
        if known.keys() != tensors.keys() or any(_kind(known[path]) != _kind(tensors[path]) for path in known):
            return False
        self.layout = layout
        for group in (self._own, *(sources for _, _, sources in self._blocks)):
            group.update((path, tensors[path]) for path in group)
        return True

    def fill(self) -> None:
        """Copy. From a GPU the copies are started, not waited for: the device keeps their order."""
        for _, views, sources in self._blocks:
            _copy_all(views, list(sources.values()))
        for path, tensor in self._own.items():
            self.tensors[path] = tensor.detach().clone()

    def are_finite(self) -> bool:
        """Whether what was copied is finite in every entry that can be checked.

        A sum is finite only where every entry is; one that is not has overflowed, or there is such an entry.
        """
        for block, _, _ in self._blocks:
            if block.dtype in _CHECKED:
                precise = torch.float32 if block.dtype in {torch.float16, torch.bfloat16} else block.dtype
                if not math.isfinite(float(block.sum(dtype=precise))) and not bool(torch.isfinite(block).all()):
                    return False
        return True


def without_tensors(value: Any, path: Path, tensors: dict[Path, torch.Tensor]) -> Any:
    """A copy of ``value`` with `Kept` for its tensors, which are put into ``tensors`` by path."""
    if isinstance(value, torch.Tensor):
        if type(value) not in _PLAIN and hasattr(value, "__tensor_flatten__"):
            return _unwrapped(value, path, tensors)
        tensors[path] = value
        return Kept(path, value.device)
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value)
        return {key: without_tensors(member, (*path, key), tensors) for key, member in members.items()}
    if type(value) in {list, tuple}:
        items = cast("list[Any]", value)
        return type(items)(without_tensors(item, (*path, place), tensors) for place, item in enumerate(items))
    return copy.deepcopy(value)


def _unwrapped(value: Any, path: Path, tensors: dict[Path, torch.Tensor]) -> Wrapped:
    names, context = value.__tensor_flatten__()
    inner = {name: without_tensors(getattr(value, name), (*path, name), tensors) for name in names}
    return Wrapped(value.__class__, inner, copy.deepcopy(context), value.shape, value.stride())


def _wrapped(kept: Wrapped, live: Any, copies: Mapping[Path, torch.Tensor]) -> Any:
    same = type(live) is kept.kind and live.shape == kept.shape
    parts = {name: getattr(live, name) if same else None for name in kept.inner}
    restored = {name: with_tensors(part, parts[name], copies) for name, part in kept.inner.items()}
    if same and all(restored[name] is parts[name] for name in parts):
        return live
    return kept.kind.__tensor_unflatten__(restored, kept.context, kept.shape, kept.stride)


def with_tensors(kept: Any, live: Any, copies: Mapping[Path, torch.Tensor]) -> Any:
    """What `without_tensors` was given: the live tensors set back where they still are, new ones where not."""
    if isinstance(kept, Kept):
        copied = copies[kept.path]
        return live if in_place(copied, live) is live else copied.to(kept.device, copy=True)
    if isinstance(kept, Wrapped):
        return _wrapped(kept, live, copies)
    if isinstance(kept, dict):
        members = cast("dict[Any, Any]", kept)
        entry = cast("dict[Any, Any]", live) if isinstance(live, dict) else {}
        restored = {key: with_tensors(member, entry.get(key), copies) for key, member in members.items()}
        entry.clear()
        entry.update(restored)
        return entry
    if type(kept) in {list, tuple}:
        items = cast("list[Any]", kept)
        same: list[Any] = list(live) if type(live) is type(kept) and len(live) == len(items) else [None] * len(items)
        return type(items)(with_tensors(item, there, copies) for item, there in zip(items, same, strict=True))
    return copy.deepcopy(kept)


def in_place(value: Any, live: Any) -> Any:
    """``live`` with the content of ``value`` where both are tensors of one kind, else ``value``."""
    tensors = isinstance(value, torch.Tensor) and isinstance(live, torch.Tensor)
    if tensors and live.shape == value.shape and live.dtype == value.dtype:
        return live.copy_(value)
    return value


def are_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether all of them are finite, as far as they can be checked: one pass, and one wait for each device."""
    checked = [tensor.detach() for tensor in tensors if tensor.dtype in _CHECKED]
    for device in {tensor.device for tensor in checked}:
        part = [tensor for tensor in checked if tensor.device == device]
        # a norm can also overflow over finite values
        if not math.isfinite(float(total_norm(part))) and not all(bool(torch.isfinite(t).all()) for t in part):
            return False
    return True


def total_norm(tensors: list[torch.Tensor]) -> torch.Tensor:
    """L2 norm over all of them; not finite when one value is not."""
    fast = True if all(tensor.device.type in {"cpu", "cuda"} for tensor in tensors) else None
    return torch.nn.utils.get_total_norm(tensors, foreach=fast)


def _copy_all(into: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
    """``copy_`` for each, without the cost of a call for each; torch's own optimizers build on this function."""
    together: Any = torch
    together._foreach_copy_(into, sources, non_blocking=True)


def _kind(tensor: torch.Tensor) -> tuple[Any, ...]:
    return type(tensor), tensor.shape, tensor.dtype, tensor.device
