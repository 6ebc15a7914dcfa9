"""The versions that Gradience was tested with: data, renewed with each release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

TESTED_ON = "2026-11-21"
"""The day of the last test of these ranges."""


class Range(NamedTuple):
    """Versions from `lowest` on, up to the minor version of `highest`.

    Attributes:
        lowest: The lower bound in pyproject.toml.
        highest: The version in constraints.txt, with which every test runs.
    """

    lowest: str
    highest: str


TESTED: Mapping[str, Range] = {
    "torch": Range("2.6", "2.13.0"),
    "transformers": Range("5.0", "5.23.0"),
    "peft": Range("0.18", "0.21.2"),
    "accelerate": Range("1.4", "1.15.0"),
}
