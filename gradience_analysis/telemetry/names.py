"""What a mistyped event name may have meant."""

from __future__ import annotations

import functools

from gradience_schema import EVENT_TYPES

MAX_EDITS = 2
_LONGEST = 64


def did_you_mean(name: str) -> str | None:
    """The known event type within two edits of `name`, nearest first; None when there is none."""
    return _nearest(name) if len(name) <= _LONGEST else None


@functools.lru_cache(maxsize=1_024)
def _nearest(name: str) -> str | None:
    distance, nearest = min((edit_distance(name, known), known) for known in EVENT_TYPES)
    return nearest if 0 < distance <= MAX_EDITS else None


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance: insertions, deletions and substitutions of one character that turn `a` into `b`."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]
