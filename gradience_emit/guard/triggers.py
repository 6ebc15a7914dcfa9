"""What counts as a fault: a step's own signals (loss, gradient norm, state) to a verdict.

**Not finite.** A loss, a gradient norm, a trainable weight or an entry of the optimizer's state is NaN or infinite.

**Spike.** With m the median of ln(norm) over the last ``spike_window`` finite norms, s = 1.4826 x their median absolute
deviation from m, and top the largest of them,

    ln(norm) > m + ln(spike_ratio)   and   ln(norm) > min(m + spike_deviations x s, top + ln(spike_ratio))

Norms that vary by factors have an s so large that the deviations alone would let a hundredfold norm pass; top closes
that gap, and opens it again for a window once there was a spike. Every finite norm enters the window, spikes too: a
median is not moved by some of them. Norms that rise for good are spikes until half of the window is of the new level,
or until ``max_skips`` where they are not applied. Norms of exactly 0 say nothing of the scale and stay out.

**Cap.** While fewer than ``spike_min_history`` norms are known, a norm above ``grad_threshold`` that is also above
``spike_ratio`` x the median of the norms known so far (of none: whatever it is).

Standard library only: `gradience guard simulate` plays the same rules over recorded runs.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from gradience_emit.guard.options import GuardOptions

__all__ = ["Judgement", "Signals", "SpikeRule", "Trigger", "Triggers", "Verdict"]

_MAD_TO_SIGMA: Final = 1.4826
_LARGEST: Final = 709.0
"""exp(709) is 8e307, half of the largest float."""


class Trigger(StrEnum):
    """What was seen."""

    NONFINITE_LOSS = "nonfinite_loss"
    NONFINITE_GRADIENT = "nonfinite_gradient"
    GRADIENT_CAP = "gradient_cap"
    GRADIENT_SPIKE = "gradient_spike"
    NONFINITE_STATE = "nonfinite_state"
    SPECTRAL = "spectral_instability"
    GUARD_FAULT = "guard_fault"


class Verdict(IntEnum):
    """How bad a step is, the worst last; ranks agree on the worst."""

    GOOD = 0
    WARN = 1
    """Worth a note; the update is applied."""
    SCALED = 2
    """The gradient overflowed in half precision: the gradient scaler leaves the update out by itself."""
    SKIP = 3
    """The gradient must not be applied; the state is sound."""
    RESTORE = 4
    """The weights or the optimizer's state are damaged."""
    FAILED = 5
    """The guard itself failed on some rank."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What one optimizer step shows before its update is applied.

    Attributes:
        loss_is_finite: whether the loss of every micro-batch was finite; None when no loss was seen.
        norm: L2 norm of the whole gradient before clipping; None when unknown.
        clipped: whether the gradient is clipped before it is applied.
        scaled: whether a gradient scaler is in use, which leaves out overflowed updates by itself.
        loss: the loss itself, for the record; None when unknown.
    """

    loss_is_finite: bool | None = None
    norm: float | None = None
    clipped: bool = False
    scaled: bool = False
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict on one step.

    Attributes:
        verdict: how bad.
        trigger: what was seen; None for a good step.
        norm: the gradient norm it was judged by; None when unknown.
        limit: the norm above which it would be too large; None when nothing limits it.
    """

    verdict: Verdict
    trigger: Trigger | None = None
    norm: float | None = None
    limit: float | None = None


class SpikeRule:
    """Whether a gradient norm stands out from those before it.

    Args:
        options: the limits.
    """

    def __init__(self, options: GuardOptions) -> None:
        self._options = options
        self._recent: deque[float] = deque()
        self._ordered: list[float] = []

    @property
    def known(self) -> int:
        """How many norms the rule goes by."""
        return len(self._ordered)

    def limit(self) -> float:
        """The norm above which the next one is too large; infinite is never returned."""
        options = self._options
        if not self._ordered:
            return options.grad_threshold
        middle, ratio = _median(self._ordered), math.log(options.spike_ratio)
        if len(self._ordered) < options.spike_min_history:
            return max(options.grad_threshold, _exp(middle + ratio))
        spread = _MAD_TO_SIGMA * _median(sorted(abs(value - middle) for value in self._ordered))
        above = min(middle + options.spike_deviations * spread, self._ordered[-1] + ratio)
        return _exp(max(above, middle + ratio))

    def judge(self, norm: float) -> tuple[Trigger | None, float]:
        """What a finite norm is, and the limit it was held against. It is not taken into the window yet."""
        if self._ordered:
            least = _exp(_median(self._ordered) + math.log(self._options.spike_ratio))
            if norm <= least:
                return None, least  # the limit is no lower, and need not be computed
        limit = self.limit()
        if norm <= limit:
            return None, limit
        blind = len(self._ordered) < self._options.spike_min_history
        return (Trigger.GRADIENT_CAP if blind else Trigger.GRADIENT_SPIKE), limit

    def observe(self, norm: float) -> None:
        """Take a finite norm into the window; the oldest one leaves when it is full."""
        if norm <= 0.0:
            return
        value = math.log(norm)
        self._recent.append(value)
        insort(self._ordered, value)
        if len(self._recent) > self._options.spike_window:
            oldest = self._recent.popleft()
            del self._ordered[bisect_left(self._ordered, oldest)]


class Triggers:
    """Judges the steps of one run, one after the other.

    Args:
        options: the limits.
    """

    def __init__(self, options: GuardOptions) -> None:
        self._options = options
        self._spikes = SpikeRule(options)

    def judge(self, signals: Signals) -> Judgement:
        """The verdict on one step from its loss and its gradient, whose norm then enters the window.

        With a gradient scaler, a gradient that is not finite under a finite loss is ordinary (its scale was too
        large) and the scaler's own affair: `Verdict.SCALED`.
        """
        norm = signals.norm
        if signals.loss_is_finite is False:
            return Judgement(Verdict.SKIP, Trigger.NONFINITE_LOSS, norm)
        if norm is None:
            return Judgement(Verdict.GOOD)
        if not math.isfinite(norm):
            verdict = Verdict.SCALED if signals.scaled and signals.loss_is_finite else Verdict.SKIP
            return Judgement(verdict, Trigger.NONFINITE_GRADIENT, norm)
        trigger, limit = self._spikes.judge(norm)
        self._spikes.observe(norm)
        if trigger is None:
            return Judgement(Verdict.GOOD, None, norm)
        warns = signals.clipped and self._options.on_clipped_spike == "warn"
        return Judgement(Verdict.WARN if warns else Verdict.SKIP, trigger, norm, limit)


def _exp(value: float) -> float:
    """The exponential, or a number near the largest one where that would overflow."""
    return math.exp(min(value, _LARGEST))


def _median(ordered: Sequence[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else 0.5 * (ordered[half - 1] + ordered[half])
