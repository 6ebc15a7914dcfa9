"""The known name nearest to an unknown one."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None when none is like it."""
    import difflib  # takes longer to import than a report without a slip has time for

    found = difflib.get_close_matches(name, tuple(known), n=1)
    return found[0] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`Did you mean X?`, or nothing."""
    found = nearest(name, known)
    return f"Did you mean {found}?" if found else ""
