"""Numbers and names as words."""

from __future__ import annotations

import math

MAX_TEXT = 300
_MINUTE, _HOUR = 60, 3600
_LONG, _WHOLE = 1e5, 1e15
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"))


def number(value: float | None) -> str:
    """Four significant digits; whole numbers in full, with thousands separators."""
    if value is None:
        return "not logged"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if abs(value) < _WHOLE and value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if _LONG <= abs(value) < _WHOLE else f"{value:.4g}"


def at_step(pair: tuple[int | None, float] | None) -> str:
    """A value with its step."""
    if pair is None:
        return "-"
    step, value = pair
    return number(value) if step is None else f"{number(value)} @ {step}"


def count(value: int) -> str:
    """A number of parameters: 442,368 in full, millions and more in short."""
    for size, unit in _UNITS:
        if value >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:,}"


def duration(seconds: float) -> str:
    """`2.1s`, `1m 53s`, `2h 05m`, `3d 04h`."""
    if seconds < _MINUTE:
        return f"{seconds:.1f}s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)}m {int(seconds % _MINUTE):02d}s"
    hours, minutes = int(seconds // _HOUR), int(seconds % _HOUR // _MINUTE)
    return f"{hours}h {minutes:02d}m" if hours < 48 else f"{hours // 24}d {hours % 24:02d}h"


def size(mebibytes: float) -> str:
    """`812 MiB`, `15.6 GiB`."""
    return f"{mebibytes:.0f} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.1f} GiB"


def clipped(text: str, longest: int = MAX_TEXT) -> str:
    """Text from a file, without what a label cannot be long enough to need."""
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"
