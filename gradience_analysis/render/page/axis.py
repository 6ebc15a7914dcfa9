"""Scales of a chart: where a value stands between two ends, and which values are written at the axis."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Ends of what is drawn: beyond them the difference of two doubles is no double.
HUGE, TINY = 1e300, 1e-300
_FLAT = 1e-12
_PAD = 0.04
_LEAST_SPAN = 0.02
_NEAR = 0.4
_FEW_DECADES = 2
_MOST_DECADES = 7
_LONG = 1e6


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale from `low` to `high`.

    Attributes:
        low: Value at the lower end.
        high: Value at the upper end, above `low`.
        ticks: Values that are written beside it, with their words.
        log: Whether equal ratios take equal room.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def place(self, value: float) -> float:
        """0 at the lower end, 1 at the upper one; a value beyond an end stands at that end."""
        if self.log:
            low = math.log10(self.low)
            share = (math.log10(max(value, TINY)) - low) / (math.log10(self.high) - low)
        else:
            share = (min(max(value, -HUGE), HUGE) - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, share))


def along(low: float, high: float, *, count: int = 5) -> Axis:
    """The axis of x: it ends where the data end. A single x stands in the middle."""
    low, high = _within(low), _within(high)
    if _same(low, high):
        return Axis(low - _room(low), high + _room(high), ((low, f"{low:,.0f}" if abs(low) < _LONG else brief(low)),))
    step, exponent = _step(high - low, count)
    if float(low).is_integer() and float(high).is_integer() and step < 1:
        step, exponent = 1.0, 0
    return Axis(low, high, _ticks(low, high, step, exponent))


def upward(low: float, high: float, *, count: int = 4) -> Axis:
    """The axis of y: it ends at round values around the data, at 0 where that is near; a constant is in the middle."""
    low, high = _within(low), _within(high)
    if _same(low, high):
        value, room = low, abs(low) / 2 or 1.0
        return Axis(value - room, value + room, ((value, brief(value)),))
    short = max(abs(low), abs(high)) * _LEAST_SPAN - (high - low)
    if short > 0:
        # What hardly changes must not look as if it did.
        low, high = low - short / 2, high + short / 2
    if 0 < low <= high * _NEAR:
        low = 0.0
    if 0 > high >= low * _NEAR:
        high = 0.0
    step, exponent = _step(high - low, count)
    low, high = math.floor(low / step + _FLAT) * step, math.ceil(high / step - _FLAT) * step
    return Axis(low, high, _ticks(low, high, step, exponent))


def tight(low: float, high: float) -> Axis:
    """An axis of y without words that ends where the data end, for where there is little room."""
    low, high = _within(low), _within(high)
    return upward(low, high) if _same(low, high) else Axis(low, high, ())


def upward_log(low: float, high: float) -> Axis:
    """The logarithmic axis of y, for values above 0: powers of ten, and 2 and 5 of each where they are few."""
    low, high = max(_within(low), TINY), max(_within(high), TINY)
    if _same(low, high):
        return Axis(low / 10, low * 10, ((low, brief(low)),), log=True)
    pad = (high / low) ** _PAD
    low, high = max(low / pad, TINY), min(high * pad, HUGE)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if last - first <= _FEW_DECADES:
        values = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
    else:
        every = -(-(last - first) // _MOST_DECADES)
        values = [10.0**power for power in range(first, last + 1) if power % every == 0]
    return Axis(low, high, tuple((value, brief(value)) for value in values if low <= value <= high), log=True)


def brief(value: float) -> str:
    """A number in at most about seven characters: 0.0025, 1,200, 250k, 3e-7."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    size = abs(value)
    if value == 0:
        return "0"
    if 1e5 <= size < 1e9:
        return f"{value / 1e6:.3g}M" if size >= 1e6 else f"{value / 1e3:.3g}k"
    if 1e3 <= size < 1e5:
        return f"{value:,.0f}"
    word = f"{value:.3g}" if 1e-4 <= size < 1e3 else f"{value:.2g}"
    return word.replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")


def _within(value: float) -> float:
    return min(max(value, -HUGE), HUGE)


def _same(low: float, high: float) -> bool:
    return high - low <= max(abs(low), abs(high)) * _FLAT or high - low < TINY


def _room(value: float) -> float:
    return max(1.0, abs(value) * 1e-6)


def _exponent(value: float) -> int:
    return math.floor(math.log10(value))


def _step(span: float, count: int) -> tuple[float, int]:
    """A distance of 1, 2 or 5 times a power of ten, `count` of which are about the span; and that power."""
    rough = span / count
    exponent = _exponent(rough)
    factor = rough / 10.0**exponent
    for nice in (1, 2, 5):
        if factor <= nice * (1 + _FLAT):
            return nice * 10.0**exponent, exponent
    return 10.0 ** (exponent + 1), exponent + 1


def _ticks(low: float, high: float, step: float, exponent: int) -> tuple[tuple[float, str], ...]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    largest = max(abs(first), abs(last)) * step
    return tuple((number * step, _word(number * step, exponent, largest)) for number in range(first, last + 1))


def _word(value: float, exponent: int, largest: float) -> str:
    """A value at an axis whose steps are of this power of ten, in the unit that its largest value asks for."""
    size = abs(value)
    if size < 10.0**exponent / 2:
        return "0"
    if largest >= 1e9 or exponent < -4:
        mantissa, _, power = f"{value:.{max(0, _exponent(size) - exponent)}e}".partition("e")
        return f"{mantissa}e{int(power)}"
    for least, unit, letter in ((1e6, 6, "M"), (1e5, 3, "k")):
        if largest >= least:
            return f"{value / 10**unit:,.{max(0, unit - exponent)}f}{letter}"
    return f"{value:,.{max(0, -exponent)}f}"
