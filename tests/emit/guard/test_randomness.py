"""The random number generators: noted without a draw, and set back to where they were."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
import torch

from gradience_emit.guard.randomness import RandomState


def draw() -> tuple[float, ...]:
    """Some numbers from each generator, odd in count, and normal ones, of which numpy keeps a second."""
    return (
        *torch.rand(3).tolist(),
        torch.randn(1).item(),
        random.random(),
        random.gauss(0, 1),
        *np.random.random(3).tolist(),
        float(np.random.standard_normal()),
    )


def test_what_was_drawn_is_drawn_again() -> None:
    """Given a noted state, when numbers were drawn and it is restored, then the same numbers come, any time."""
    draw()
    state = RandomState.capture()
    first = draw()
    assert draw() != first
    for _ in range(2):
        state.restore()
        assert draw() == first


def test_noting_draws_nothing() -> None:
    """Given a seed, when the state is noted between two draws, then they are those without it."""

    def drawn(*, note: bool) -> list[tuple[float, ...]]:
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)
        numbers: list[tuple[float, ...]] = []
        for _ in range(3):
            if note:
                RandomState.capture()
            numbers.append(draw())
        return numbers

    assert drawn(note=True) == drawn(note=False)


def test_a_noted_state_is_not_moved_by_what_follows() -> None:
    """Given a noted state, when numbers are drawn in place of the generators' memory, then it is still the old one."""
    state = RandomState.capture()
    before = state.cpu.clone()
    draw()
    assert torch.equal(state.cpu, before)


def test_without_numpy_there_is_nothing_to_note_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a process that has not imported numpy, when the state is noted and restored, then the others are."""
    monkeypatch.delitem(sys.modules, "numpy")
    state = RandomState.capture()
    assert state.numpy is None
    first = torch.rand(2).tolist()
    state.restore()
    assert torch.rand(2).tolist() == first


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_generators_of_a_gpu_are_set_back() -> None:
    """Given a GPU in use, when numbers were drawn on it and it is restored, then the same ones come again."""
    torch.zeros(1, device="cuda")
    state = RandomState.capture()
    first = torch.rand(4, device="cuda")
    state.restore()
    assert torch.equal(torch.rand(4, device="cuda"), first)
