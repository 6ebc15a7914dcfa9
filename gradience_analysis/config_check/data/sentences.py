"""Words that the checks of the data share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gradience_analysis.config_check.data.facts import DataFacts, SplitFacts
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Place

NO_TRAIN = "No training data were given: give a JSON Lines file with --data."


def train_of(subject: Preflight) -> SplitFacts | None:
    """The training file, when it was given and could be read."""
    train = subject.data.train if subject.data else None
    return train if train is not None and not train.fault else None


def splits_of(data: DataFacts | None) -> list[tuple[str, SplitFacts]]:
    """The files that could be read, each with what it is for."""
    if data is None:
        return []
    both = (("training", data.train), ("evaluation", data.evaluation))
    return [(word, split) for word, split in both if split is not None and not split.fault]


def extent(split: SplitFacts) -> str:
    """How much of a file was looked at, for the basis of a finding."""
    return "all of the file" if split.complete else f"the file's start; the looking stopped {split.stopped}"


def looked_at(split: SplitFacts) -> dict[str, Any]:
    """The same as numbers, for evidence and details."""
    return {
        "path": split.path,
        "lines": split.lines,
        "examples": split.examples,
        "complete": split.complete,
        "oversized": split.oversized,
        "stopped": split.stopped,
    }


def lines_of(split: SplitFacts, numbers: Iterable[int]) -> tuple[Place, ...]:
    """Places of some lines of a file."""
    return tuple(Place(path=split.path, line=number) for number in numbers)


def percent(part: float, whole: float) -> str:
    """A share in words: never `0%` for some, never `100%` for less than all."""
    share = part / whole if whole else 0.0
    if 0 < share < 0.001:
        return "under 0.1%"
    if 0.999 < share < 1:
        return "over 99.9%"
    return f"{share:.1%}".replace(".0%", "%")
