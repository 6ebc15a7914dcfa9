"""The state of every random number generator that a training step draws from."""

from __future__ import annotations

import ctypes
import functools
import random
import sys
from dataclasses import dataclass
from typing import Any, Final

import torch

__all__ = ["RandomState"]

_MT19937_BYTES: Final = 624 * 4 + 4
"""624 words of 32 bits, and the position among them."""


@dataclass(frozen=True, slots=True)
class RandomState:
    """The global generators at one moment: torch's on the CPU and on every device in use, Python's, and numpy's.

    Taking it draws no number and makes no device wait; a device's generator is a seed and a counter on the host.
    numpy's is taken when numpy is imported.
    """

    cpu: torch.Tensor
    devices: tuple[tuple[str, Any], ...]
    python: tuple[Any, ...]
    numpy: Any

    @classmethod
    def capture(cls) -> RandomState:
        """The generators as they are now."""
        return cls(
            cpu=torch.default_generator.get_state(),
            devices=tuple(_device_states()),
            python=random.getstate(),
            numpy=_numpy_state(),
        )

    def restore(self) -> None:
        """Set the generators back."""
        torch.set_rng_state(self.cpu)
        for name, state in self.devices:
            backend: Any = getattr(torch, name)
            backend.set_rng_state(state) if name == "mps" else backend.set_rng_state_all(state)
        random.setstate(self.python)
        if self.numpy is not None:
            sys.modules["numpy"].random.set_state(self.numpy)


@functools.cache
def _backends() -> tuple[str, ...]:
    """The devices that this process could use; which of them it does use is asked at each capture."""
    found = [name for name in ("cuda", "xpu") if hasattr(torch, name) and getattr(torch, name).is_available()]
    return (*found, "mps") if torch.backends.mps.is_available() else tuple(found)


def _device_states() -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name in _backends():
        backend: Any = getattr(torch, name)
        if name == "mps":
            found.append((name, backend.get_rng_state()))
        elif backend.is_initialized():
            found.append((name, backend.get_rng_state_all()))
    return found


_last_numpy: tuple[bytes, Any] | None = None
"""The words of numpy's generator when its state was read last, and that state."""


_place: tuple[Any, int | None] | None = None
"""numpy's global generator, which is kept alive here, and where its words lie; None for one of another kind."""


def _numpy_state() -> Any:
    """The legacy global state of numpy; None while numpy is not imported.

    Reading it makes 624 Python integers, most of what a capture costs, and most loops never draw from it. So the words
    of the generator are compared first, and the state that was read last is taken again where they are the same. Not
    when that state holds a second normal number, which can be drawn without a new word.
    """
    global _last_numpy  # noqa: PLW0603 - one generator a process, one memory of it
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return None
    words = _words_of(numpy)
    if words is not None and _last_numpy is not None and _last_numpy[0] == words:
        return _last_numpy[1]
    state = numpy.random.get_state(legacy=False)
    _last_numpy = None if words is None or state["has_gauss"] else (words, state)
    return state


def _words_of(numpy: Any) -> bytes | None:
    """The memory of numpy's global generator; None for one of another kind, whose size is not known."""
    global _place  # noqa: PLW0603 - as above
    generator: Any = numpy.random.get_bit_generator() if hasattr(numpy.random, "get_bit_generator") else None
    if _place is None or _place[0] is not generator:
        known = type(generator).__name__ == "MT19937"
        _place = (generator, generator.ctypes.state_address if known else None)
    address = _place[1]
    return None if address is None else ctypes.string_at(address, _MT19937_BYTES)
