"""What a mistyped key may have meant."""

from __future__ import annotations

from collections.abc import Iterable

from gradience_analysis.telemetry.names import MAX_EDITS, edit_distance

_LONGEST = 64
# Two edits turn most words of four letters into one another.
_SHORT = 6


def meant(name: str, known: Iterable[str]) -> str:
    """The known name within two edits of a key, nearest first; empty when there is none.

    Between short names one edit counts, or two letters that have changed places.
    """
    if not 1 <= len(name) <= _LONGEST:
        return ""
    near: list[tuple[int, str]] = []
    for other in known:
        if abs(len(other) - len(name)) <= MAX_EDITS:
            distance = edit_distance(name, other)
            if distance <= _allowed(name, other) or name.lower() == other:
                near.append((distance, other))
    return min(near)[1] if near else ""


def _allowed(name: str, other: str) -> int:
    longest = max(len(name), len(other))
    if longest >= _SHORT:
        return MAX_EDITS
    if min(len(name), len(other)) < 2:
        return 0
    return MAX_EDITS if sorted(name) == sorted(other) else 1
