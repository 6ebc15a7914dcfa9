"""What a rule of the catalogue needs to show of itself: an input that trips it, and one near it that does not."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from gradience_analysis.model import Finding

Fixture = Callable[[Path], Collection[Finding]]
"""Builds real input in a folder, takes it through the real entry, and gives every finding."""


@dataclass(frozen=True, slots=True)
class Case:
    """Two fixtures of one rule.

    Attributes:
        trips: Its findings have one that follows the rule.
        passes: Its findings have none that follows the rule; close to the limit, not empty.
    """

    trips: Fixture
    passes: Fixture
