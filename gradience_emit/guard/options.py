"""What the guard may do and when: its options, their ranges, and where their defaults come from."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["GuardOptions"]


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """Options of the guard. Steps are optimizer steps, skipped ones included.

    The defaults of the limits stand in the policy file too, under ``[guard.*]``, each with where it comes from.

    Attributes:
        mode: ``"act"``, or ``"observe"`` to record what would be done and change nothing.
        snapshot_every: steps from one snapshot to the next.
        ring_size: snapshots kept; each holds the trainable weights and the optimizer's state once more, on the CPU.
        grad_threshold: gradient norm above which a step counts as an explosion while fewer than
            ``spike_min_history`` norms are known.
        spike_deviations: how many robust standard deviations of the log norm above its median are a spike.
        spike_ratio: and how many times the median at least; as many times the largest norm are a spike, too.
        spike_window: how many of the last finite norms the median is of.
        spike_min_history: norms needed before the spike rule replaces ``grad_threshold``.
        on_clipped_spike: what a finite spike leads to when the gradient is clipped: ``"warn"`` or ``"skip"``.
        max_skips: bad steps in a row after which the guard gives up.
        max_rollbacks: rollbacks within ``window_steps`` after which the next one is an abort.
        window_steps: length of that rolling window.
        cooldown_steps: steps from a rollback in which no other follows; a bad step then is skipped.
        steps_back: which snapshot a rollback restores: 1 is the newest, 2 the one before, and so on; the oldest where
            there are fewer.
        prune_newer_on_rollback: whether the snapshots newer than the restored one are dropped.
        on_abort: ``"stop"`` training, or ``"continue"`` without the guard.
        lr_backoff: factor, in (0, 1], on the learning rate after each rollback; None leaves it.
        max_backoffs: how often at most.

    Raises:
        ValueError: an option is out of its range; the message names it.
    """

    mode: Literal["act", "observe"] = "act"
    snapshot_every: int = 10
    ring_size: int = 5
    grad_threshold: float = 100.0
    spike_deviations: float = 8.0
    spike_ratio: float = 4.0
    spike_window: int = 64
    spike_min_history: int = 16
    on_clipped_spike: Literal["warn", "skip"] = "warn"
    max_skips: int = 20
    max_rollbacks: int = 3
    window_steps: int = 50
    cooldown_steps: int = 10
    steps_back: int = 1
    prune_newer_on_rollback: bool = True
    on_abort: Literal["stop", "continue"] = "stop"
    lr_backoff: float | None = None
    max_backoffs: int = 3

    def __post_init__(self) -> None:
        for name, allowed in (
            ("mode", ("act", "observe")),
            ("on_clipped_spike", ("warn", "skip")),
            ("on_abort", ("stop", "continue")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, not {getattr(self, name)!r}")
        for name in ("snapshot_every", "ring_size", "spike_min_history", "max_skips", "window_steps", "steps_back"):
            _check_count(name, getattr(self, name), 1)
        for name in ("max_rollbacks", "cooldown_steps", "max_backoffs"):
            _check_count(name, getattr(self, name), 0)
        _check_count("spike_window", self.spike_window, self.spike_min_history)
        for name, least in (("grad_threshold", 0.0), ("spike_deviations", 0.0), ("spike_ratio", 1.0)):
            _check_number(name, getattr(self, name), least)
        if self.lr_backoff is not None:
            _check_number("lr_backoff", self.lr_backoff, 0.0)
            if self.lr_backoff > 1:
                raise ValueError(f"lr_backoff must be a number in (0, 1] or None, not {self.lr_backoff!r}")

    def limits(self) -> dict[str, Any]:
        """Every option by name, as ``GUARD_INIT`` records them."""
        return dataclasses.asdict(self)


def _check_count(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, not {value!r}")


def _check_number(name: str, value: object, above: float) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not above < value < math.inf:
        if value == above == 1.0 and not isinstance(value, bool):  # a spike of once the median is a choice
            return
        raise ValueError(f"{name} must be a number above {above:g}, not {value!r}")
