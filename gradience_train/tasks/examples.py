"""What every embedded task is made of: a text with the word to give, and three splits of such examples."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Example:
    """One question, or one text to label, and its one-word answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Splits:
    """The three splits of a task; nothing that is asked in one of them is asked in another."""

    train: tuple[Example, ...]
    val: tuple[Example, ...]
    test: tuple[Example, ...]
