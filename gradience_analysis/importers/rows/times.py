"""Times of foreign records to Unix seconds."""

from __future__ import annotations

import datetime as dt
import math

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LONGEST = 64


def unix_seconds(value: object) -> float | None:
    """Unix seconds of an ISO 8601 time or of a finite number of seconds; None for anything else.

    A time without a zone is taken as UTC; `has_zone` tells whether it had one.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _finite(value)
    moment = _moment(value)
    return None if moment is None else (moment - _EPOCH).total_seconds()


def has_zone(value: object) -> bool:
    """Whether an ISO 8601 time names its zone; numbers count from an instant that needs none."""
    return not isinstance(value, str) or (len(value) <= _LONGEST and _names_zone(value))


def _moment(value: object) -> dt.datetime | None:
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)


def _names_zone(value: str) -> bool:
    try:
        return dt.datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _finite(value: float) -> float | None:
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None
