"""Module patterns out of a config: matched as PEFT matches them, once it is certain that the match ends.

The keys of `rank_pattern` and `alpha_pattern` are regular expressions that come with the adapter. An expression can be
made to take longer than anyone waits, so one is only tried when few repetitions and alternatives can follow each other.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_PATTERN = 1024
MAX_NAME = 512
_MAX_UNBOUNDED = 2
_MAX_CHOICES = 4096
_REPEATS = "*+?{"
UNKNOWN: Any = object()
"""Value of a pattern that is there, but stands for nothing that could be read."""


@dataclass(frozen=True, slots=True)
class Patterns:
    """Compiled patterns, in order, with the values they stand for.

    Attributes:
        entries: (compiled pattern or None where it must not be tried, value).
    """

    entries: tuple[tuple[re.Pattern[str] | None, Any], ...]

    def find(self, module: str) -> tuple[bool, Any]:
        """(True, value) of the first pattern that matches; (True, None) without one; (False, None) where unclear.

        Unclear means that a pattern before it could not be tried, that the first one that matches stands for UNKNOWN,
        or that the name is too long to try any.

        Args:
            module: Name of a module, without `base_model.model.`.
        """
        if self.entries and len(module) > MAX_NAME:
            return False, None
        for pattern, value in self.entries:
            if pattern is None:
                return False, None
            if pattern.match(module):
                return (False, None) if value is UNKNOWN else (True, value)
        return True, None

    def matching(self, module: str) -> list[Any]:
        """The values of all patterns that match, as far as they can be tried, in order."""
        if len(module) > MAX_NAME:
            return []
        return [value for pattern, value in self.entries if pattern is not None and pattern.match(module)]


def compile_patterns(patterns: Mapping[str, Any]) -> Patterns:
    """The patterns of a config, each as PEFT applies it: from the start of the name or after a dot, to its end."""
    return Patterns(tuple((_compiled(key), value) for key, value in patterns.items()))


def _compiled(key: str) -> re.Pattern[str] | None:
    if not ends_soon(key):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about brackets that a later Python may read otherwise
            return re.compile(rf"(.*\.)?({key})$")
    except (re.error, RecursionError, OverflowError):
        return None


def ends_soon(pattern: str) -> bool:
    """Whether matching this expression against a short name is certain to end soon; False when in doubt.

    Refused: a repeated group, look-around and back-references, more than two open repetitions, and more than 4,096
    ways to choose among alternatives and optional parts.
    """
    if len(pattern) > MAX_PATTERN or "(?" in pattern.replace("(?:", "(") or re.search(r"\\[1-9]", pattern):
        return False
    unbounded, choices = 0, 1
    groups: list[int] = [1]
    tokens = _tokens(pattern)
    for place, token in enumerate(tokens):
        if token == "(":  # noqa: S105 - a parenthesis
            groups.append(1)
        elif token == "|":  # noqa: S105
            groups[-1] += 1
        elif token == ")":  # noqa: S105
            repeated = tokens[place + 1 : place + 2] and tokens[place + 1] in _REPEATS
            if len(groups) == 1 or repeated:
                return False
            choices *= groups.pop()
        elif token == "?":  # noqa: S105
            choices *= 2
        elif token in _REPEATS:
            unbounded += 1
        if choices > _MAX_CHOICES:
            return False
    return unbounded <= _MAX_UNBOUNDED and choices * groups[0] <= _MAX_CHOICES


def _tokens(pattern: str) -> Sequence[str]:
    """Characters of an expression; an escaped one and a class of them count as one, plain token."""
    plain = re.sub(r"\\.", "x", pattern, flags=re.DOTALL)
    return re.sub(r"\[\^?\]?[^\]]*\]", "x", plain)
