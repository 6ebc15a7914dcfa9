"""The ring of snapshots: when one is due, which are kept, which is restored, and whose memory is used again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradience_emit.guard.snapshots import SnapshotRing
from gradience_emit.guard.state import Hold, StepStart, TrainingState


class Counter:
    """A state that is one number, and copies it into a list of one."""

    def __init__(self) -> None:
        self.value = 0
        self.restarted: list[Any] = []
        self.made = 0
        self.sound = True

    def start(self) -> Any:
        """The value."""
        return self.value

    def restart(self, start: Any) -> None:
        """Note it."""
        self.restarted.append(start)

    def save(self, into: list[int] | None) -> list[int]:
        """Into the older copy where there is one."""
        self.made += into is None
        saved = [0] if into is None else into
        saved[0] = self.value
        return saved

    def save_sound(self, into: list[int] | None) -> list[int] | None:
        """The same, unless it is unsound."""
        saved = self.save(into)
        return saved if self.sound else None

    def load(self, saved: list[int]) -> None:
        """Restore it."""
        self.value = saved[0]

    def size(self, saved: list[int]) -> int:
        """Ten bytes each."""
        return 10 * len(saved)

    def is_finite(self) -> bool:
        """As it is set."""
        return self.sound

    def gradient_norm(self) -> None:
        """None."""

    def drop_gradients(self) -> None:
        """There are none."""

    def hold(self) -> Hold:
        """Nothing."""
        return Hold()

    def release(self, hold: Hold) -> None:
        """Nothing."""

    def scale_lr(self, factor: float) -> Callable[[], None]:
        """Nothing."""
        return lambda: None

    def parts(self) -> tuple[str, ...]:
        """The number."""
        return ("number",)


def take(ring: SnapshotRing, step: int, start: Any) -> None:
    """Take a snapshot of a sound state."""
    assert ring.prepare()
    assert ring.is_prepared
    ring.keep(step, start)
    assert not ring.is_prepared


def filled(steps: list[int], *, size: int = 3, every: int = 2) -> tuple[Counter, SnapshotRing]:
    """A ring with a snapshot of each step, whose value is the step."""
    state = Counter()
    ring = SnapshotRing(state, size, every)
    for step in steps:
        state.value = step
        take(ring, step, state.start())
    return state, ring


def test_a_snapshot_is_due_at_first_and_after_every_interval() -> None:
    """Given an interval of 3, when steps pass, then one is due at once, and then with the third step after it."""
    state = Counter()
    ring = SnapshotRing(state, 5, 3)
    due: list[int] = []
    for step in range(10):
        if ring.is_due(step):
            due.append(step)
            take(ring, step, state.start())
    assert due == [0, 3, 6, 9]


def test_the_newest_are_kept_and_the_oldest_ones_memory_is_used_again() -> None:
    """Given room for 3, when 10 are taken, then the last 3 are there, in the memory of 3."""
    state, ring = filled(list(range(10)))
    assert (len(ring), state.made, ring.memory) == (3, 3, 30)
    restored = [ring.restore(back, prune=False).step for back in (1, 2, 3, 4, 99)]
    assert restored == [9, 8, 7, 7, 7]


@pytest.mark.parametrize(("prune", "left"), [(True, [5]), (False, [5, 7, 9])])
def test_the_newer_ones_go_when_that_is_asked_for(prune: bool, left: list[int]) -> None:
    """Given the third newest restored, when newer ones are pruned or not, then they are gone or still there."""
    state, ring = filled([3, 5, 7, 9])
    snapshot = ring.restore(3, prune=prune)
    assert (snapshot.step, state.value, state.restarted) == (5, 5, [5])
    assert [ring.restore(back, prune=False).step for back in range(len(ring), 0, -1)] == left
    assert ring.memory == 30, "their memory waits for the next ones"
    state.value = 11
    take(ring, 11, state.start())
    assert state.made == 3


def test_an_empty_ring_restores_nothing() -> None:
    """Given no snapshot, or none any more, when one is restored, then it is an IndexError, and the state stays."""
    state = Counter()
    ring = SnapshotRing(state, 2, 1)
    state.value = 4
    with pytest.raises(IndexError):
        ring.restore(1, prune=True)
    take(ring, 0, state.start())
    ring.clear()
    assert (len(ring), ring.memory) == (0, 0)
    with pytest.raises(IndexError):
        ring.restore(1, prune=True)
    assert state.value == 4


def test_an_unsound_state_is_not_kept_and_costs_the_oldest_at_most() -> None:
    """Given a full ring, when unsound states come again and again, then only the memory of the oldest is used up."""
    state, ring = filled([1, 2, 3])
    state.sound = False
    for _ in range(3):
        state.value = 99
        assert not ring.prepare()
        assert not ring.is_prepared
    assert [ring.restore(back, prune=False).step for back in (2, 1)] == [2, 3]
    assert (len(ring), ring.memory) == (2, 30)


def test_what_was_prepared_may_be_dropped() -> None:
    """Given a prepared copy, when it is not wanted after all, then the ring is what it was."""
    state, ring = filled([1, 2])
    assert ring.prepare()
    ring.drop()
    assert (len(ring), ring.is_prepared, state.made) == (2, False, 3)
    take(ring, 3, state.start())
    assert (len(ring), state.made) == (3, 3)


def test_a_ring_of_one_always_has_one_to_go_back_to() -> None:
    """Given room for one, when the state that follows is unsound, then the one before is still there."""
    state, ring = filled([1], size=1)
    state.sound = False
    assert not ring.prepare()
    assert ring.restore(1, prune=True).step == 1
    assert state.value == 1


OPERATIONS = st.lists(
    st.one_of(st.just("take"), st.just("unsound"), st.just("drop"), st.tuples(st.integers(1, 6), st.booleans())),
    max_size=40,
)


@given(OPERATIONS, st.integers(1, 4))
def test_the_ring_is_a_list_of_what_was_taken(operations: list[Any], size: int) -> None:
    """Given takes and restores in any order, when each is compared with a plain list, then they agree on all."""
    state = Counter()
    ring, expected = SnapshotRing(state, size, 1), list[int]()
    for step, operation in enumerate(operations, 1):
        if isinstance(operation, tuple):
            back, prune = operation
            if expected:
                place = max(len(expected) - back, 0)
                assert ring.restore(back, prune=prune).step == state.value == expected[place]
                expected = expected[: place + 1] if prune else expected
            continue
        state.value, state.sound = step, operation != "unsound"
        assert ring.prepare() == state.sound
        expected = expected[1:] if len(expected) >= max(size, 2) else expected
        if operation == "take":
            ring.keep(step, state.start())
            expected = [*expected, step][-size:]
        ring.drop()
        assert len(ring) == len(expected)
        assert ring.memory <= 10 * max(size, 2)


def test_tensors_lie_where_those_of_the_oldest_lay() -> None:
    """Given a real state and room for 2, when a third snapshot is taken, then it lies where the first lay."""
    layer = torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    state = TrainingState(layer, optimizer)
    ring = SnapshotRing(state, 2, 1)
    places: list[set[int]] = []
    for step in range(5):
        layer(torch.randn(2, 3)).sum().backward()
        optimizer.step()
        take(ring, step, StepStart(state.start().random))
        newest = ring.restore(1, prune=False)
        places.append({tensor.data_ptr() for tensor in newest.saved.copies.tensors.values()})
    assert places[0] == places[2] == places[4]
    assert places[1] == places[3]
    assert not places[0] & places[1]
