"""Which segment of a run comes first, and what of it a later one supersedes: one rule for events and for tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

SUPERSEDED: Final = frozenset({"train_step", "eval", "metrics"})
"""Records that a later segment replaces where it trained the same steps again; what happened otherwise, happened."""

T = TypeVar("T")


def in_order(
    stretches: Sequence[T], number: Callable[[T], int | None], place: Callable[[T], tuple[int, int]]
) -> list[T]:
    """The stretches of a run on one rank, first to last.

    Args:
        stretches: In any order.
        number: `meta.segment` of a stretch; None when its run_start names none, as that of a first segment does.
        place: Segment number in the file's name, and position in the file.

    Returns:
        In order of `meta.segment` when those differ, else of the place.
    """
    numbers = [number(stretch) or 0 for stretch in stretches]
    by_number = len(set(numbers)) == len(numbers)
    return sorted(stretches, key=lambda stretch: ((number(stretch) or 0) if by_number else 0, *place(stretch)))


def first_step(resume_step: int | None, first_train_step: int | None) -> float:
    """The first step that a segment trained, as far as it is known; infinity when it trained none."""
    if first_train_step is None:
        return float("inf")
    return first_train_step if resume_step is None else min(resume_step + 1, first_train_step)


def limits(first_steps: Sequence[float]) -> list[float]:
    """For each segment, in order, the step from which on later segments supersede it; infinity for none."""
    found: list[float] = []
    limit = float("inf")
    for first in reversed(first_steps):
        found.append(limit)
        limit = min(limit, first)
    return found[::-1]
