"""What a mistyped event name may have meant."""

from __future__ import annotations

from gradience_schema import EVENT_TYPES

MAX_EDITS = 2
_LONGEST = 64


def did_you_mean(name: str) -> str | None:
    """The known event type within two edits of `name`, nearest first; None when there is none."""
    if len(name) > _LONGEST:
        return None
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
