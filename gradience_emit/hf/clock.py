"""How fast training goes: time, samples and tokens per optimizer step, evaluation and saving left out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

__all__ = ["StepClock"]


@dataclass(frozen=True, slots=True)
class _Mark:
    """The counts at one moment: seconds of training, optimizer steps, micro-batches."""

    seconds: float = 0.0
    steps: int = 0
    batches: int = 0


class StepClock:
    """Counts steps and the time they took.

    Time runs from the start of training and stops from the end of a step to the end of an evaluation or a save that
    follows it. Fetching the next batch and writing logs are part of training and stay in.

    Args:
        samples_per_batch: examples of one micro-batch over all data-parallel ranks (the nominal size: the last batch of
            an epoch may be smaller).
        tokens: tokens seen before training started (not zero in a resumed run); None when they are not known yet.
        now: seconds from a monotonic clock.
    """

    def __init__(
        self, samples_per_batch: int, tokens: float | None = None, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._now = now
        self._samples_per_batch = samples_per_batch
        self._idle_since = now()
        self._count = self._reported = _Mark()
        self._tokens = self._reported_tokens = None if tokens is None else (tokens, 0.0)

    @property
    def unreported_steps(self) -> int:
        """Steps since the last `report`."""
        return self._count.steps - self._reported.steps

    def batch_ended(self) -> None:
        """A micro-batch was trained on."""
        self._count = replace(self._count, batches=self._count.batches + 1)

    def step_ended(self) -> None:
        """An optimizer step is done."""
        moment = self._now()
        count = self._count
        self._count = _Mark(count.seconds + moment - self._idle_since, count.steps + 1, count.batches)
        self._idle_since = moment

    def resume(self) -> None:
        """An evaluation or a save is done: the time since the last step was not training."""
        self._idle_since = self._now()

    def tokens_seen(self, tokens: float) -> None:
        """The tokens of the whole run up to the step that ended last."""
        self._tokens = (tokens, self._count.seconds)
        if self._reported_tokens is None:
            self._reported_tokens = self._tokens

    def report(self) -> dict[str, float]:
        """Figures since the last report: ``step_s``, ``samples_per_s``, ``tokens_per_s``; empty without a step.

        ``tokens_per_s`` is taken between the last two token counts, which the trainer may publish more rarely than
        steps end; it is left out when there is no new count.
        """
        steps = self.unreported_steps
        seconds = self._count.seconds - self._reported.seconds
        batches = self._count.batches - self._reported.batches
        if steps == 0 or seconds <= 0.0:
            return {}
        self._reported = self._count
        figures = {"step_s": seconds / steps, "samples_per_s": batches * self._samples_per_batch / seconds}
        rate = self._token_rate()
        return figures if rate is None else {**figures, "tokens_per_s": rate}

    def _token_rate(self) -> float | None:
        if self._tokens is None or self._reported_tokens is None:
            return None
        tokens, seconds = (new - old for new, old in zip(self._tokens, self._reported_tokens, strict=True))
        self._reported_tokens = self._tokens
        return tokens / seconds if tokens > 0 and seconds > 0.0 else None
