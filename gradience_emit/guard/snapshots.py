"""The ring of snapshots: the last states that were known to be sound."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from gradience_emit.guard.state import Restorable, StepStart

__all__ = ["Snapshot", "SnapshotRing"]


@dataclass(slots=True)
class Snapshot:
    """A sound state.

    Attributes:
        step: optimizer steps done before it, skipped ones included.
        start: random numbers and running statistics before the first forward pass that followed.
        saved: the state itself.
        size: bytes that it takes.
    """

    step: int
    start: StepStart
    saved: Any
    size: int


class SnapshotRing:
    """The newest snapshots of a state; the oldest one's memory is used again.

    Args:
        state: what is saved and restored.
        size: how many are kept.
        every: steps from one to the next.
    """

    def __init__(self, state: Restorable[Any], size: int, every: int) -> None:
        self._state, self._size, self._every = state, size, every
        self._ring: deque[Snapshot] = deque()
        self._spare: list[Any] = []
        self._prepared: Any = None

    def __len__(self) -> int:
        return len(self._ring)

    @property
    def memory(self) -> int:
        """Bytes held, those kept for coming snapshots included."""
        return sum(snapshot.size for snapshot in self._ring) + sum(self._state.size(saved) for saved in self._spare)

    def is_due(self, step: int) -> bool:
        """Whether a snapshot is to be taken before the update of this step."""
        return not self._ring or step - self._ring[-1].step >= self._every

    def prepare(self) -> bool:
        """Copy the state if it is sound, to be kept or dropped; whether it is.

        The copy goes into the oldest snapshot's memory. A ring of one has a second place for it, so that there is
        always one to go back to.
        """
        self.drop()
        if len(self._ring) >= max(self._size, 2):
            self._spare.append(self._ring.popleft().saved)
        self._prepared = self._state.save_sound(self._spare[-1] if self._spare else None)
        if self._prepared is not None and self._spare:
            self._spare.pop()
        return self._prepared is not None

    @property
    def is_prepared(self) -> bool:
        """Whether there is a copy to be kept or dropped."""
        return self._prepared is not None

    def keep(self, step: int, start: StepStart) -> None:
        """Make a snapshot of the prepared copy."""
        saved, self._prepared = self._prepared, None
        self._ring.append(Snapshot(step, start, saved, self._state.size(saved)))
        while len(self._ring) > self._size:
            self._spare.append(self._ring.popleft().saved)

    def drop(self) -> None:
        """Keep no more of the prepared copy than its memory."""
        if self._prepared is not None:
            self._spare.append(self._prepared)
            self._prepared = None

    def restore(self, steps_back: int, *, prune: bool) -> Snapshot:
        """Restore the ``steps_back``-th newest snapshot, or the oldest, and what its first forward pass drew from.

        Args:
            steps_back: 1 is the newest.
            prune: whether to forget the newer ones. They came after it, and may carry what went wrong.

        Raises:
            IndexError: there is none.
        """
        place = max(len(self._ring) - steps_back, 0)
        snapshot = self._ring[place]
        self._state.load(snapshot.saved)
        self._state.restart(snapshot.start)
        while prune and self._ring[-1] is not snapshot:
            self._spare.append(self._ring.pop().saved)
        return snapshot

    def clear(self) -> None:
        """Forget them all and free their memory."""
        self._ring.clear()
        self._spare.clear()
        self._prepared = None
