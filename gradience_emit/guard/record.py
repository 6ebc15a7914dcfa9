"""What the guard writes: alerts and ``metrics(kind="guard")``, counters, and the summary at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

from gradience_emit.guard.options import GuardOptions
from gradience_emit.guard.policy import Action, Decision
from gradience_emit.guard.triggers import Judgement, Verdict
from gradience_emit.memory import MIB

__all__ = ["GuardRecord", "GuardSummary", "GuardWriter"]

_CODES: Final[Mapping[Action, tuple[str, str]]] = {
    Action.SKIP: ("GUARD_SKIP", "warning"),
    Action.ROLLBACK: ("GUARD_ROLLBACK", "warning"),
    Action.ABORT: ("GUARD_ABORT", "error"),
}
_SAW: Final[Mapping[str, str]] = {
    "nonfinite_loss": "the loss was NaN or infinite",
    "nonfinite_gradient": "the gradient was NaN or infinite",
    "gradient_cap": "the gradient norm was above the cap",
    "gradient_spike": "the gradient norm stood out",
    "nonfinite_state": "weights or optimizer state were NaN or infinite",
    "spectral_instability": "the spectral monitor asked for it",
    "guard_fault": "the guard itself failed",
}
_logger = logging.getLogger("gradience_emit")


class GuardWriter(Protocol):
    """The part of a `TelemetryWriter` that is used here."""

    def metrics(self, /, step: int | None, *, kind: str, metrics: Mapping[str, Any], **extras: Any) -> None:
        """Write measurements."""

    def alert(
        self,
        *,
        severity: str,
        code: str,
        message: str,
        step: int | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        """Write an alert."""


@dataclass(frozen=True, slots=True)
class GuardSummary:
    """What the guard did in a whole run.

    Attributes:
        total_rollbacks: snapshots restored.
        total_skips: updates left out.
        total_recoveries: rows of bad steps after which an update was applied again.
        total_snapshots: snapshots taken.
        total_triggers: steps at which something was seen, those that only led to a note included.
        integrity_status: ``"ok"`` (nothing was wrong), ``"recovered"`` (something was, and the final state is finite),
            ``"aborted"`` (the guard gave up; the final state is finite), ``"corrupted"`` (the final state is not
            finite), ``"not_checked"`` (the run broke off, or the guard failed).
        gave_up: why the guard gave up; None when it did not.
        lr_multiplier: factor on the learning rate at the end.
        ms_per_step: mean time inside the guard per optimizer step, in milliseconds.
        mode: ``"act"`` or ``"observe"``; an observing guard counts what it would have done.
    """

    total_rollbacks: int = 0
    total_skips: int = 0
    total_recoveries: int = 0
    total_snapshots: int = 0
    total_triggers: int = 0
    integrity_status: str = "not_checked"
    gave_up: str | None = None
    lr_multiplier: float = 1.0
    ms_per_step: float | None = None
    mode: str = "act"

    def to_dict(self) -> dict[str, Any]:
        """As in ``summary.json``."""
        return asdict(self)


class GuardRecord:
    """Counts what the guard does and writes it down.

    Args:
        options: the guard's options.
        writer: gives the writer of the run; None on a rank that does not write.
    """

    def __init__(self, options: GuardOptions, writer: Callable[[], GuardWriter | None]) -> None:
        self._options, self._writer = options, writer
        self._observes = options.mode == "observe"
        self._bad_row = False
        self.rollbacks = self.skips = self.recoveries = self.snapshots = self.triggers = 0
        self.gave_up: str | None = None

    def began(self, step: int, parts: tuple[str, ...]) -> None:
        """The guard is on: its mode and every limit."""
        limits = self._options.limits()
        doing = "watches and changes nothing" if self._observes else "acts"
        message = (
            f"The guard (experimental) {doing}: a snapshot every {self._options.snapshot_every} steps, "
            f"{self._options.ring_size} kept."
        )
        _logger.info(message)
        self._alert("info", "GUARD_INIT", message, step, limits)
        self._metrics(step, {"action": "init", "restores": list(parts), **limits})

    def took_snapshot(self, step: int, held: int, memory: int) -> None:
        """A snapshot of the state before this step; the first one also as an alert."""
        self.snapshots += 1
        details = {
            "ring_size": self._options.ring_size,
            "snapshot_count": held,
            "memory_mb": round(memory / MIB, 3),
        }
        if self.snapshots == 1:
            message = f"The first snapshot takes {details['memory_mb']:g} MiB; {self._options.ring_size} are kept."
            self._alert("info", "GUARD_SNAPSHOT", message, step, details)
        self._metrics(step, {"action": "snapshot", **details})

    def went_on(self) -> None:
        """An update was applied."""
        self.recoveries += self._bad_row
        self._bad_row = False

    def noticed(self, step: int, judged: Judgement, loss: float | None) -> None:
        """Something was seen, and the update is applied all the same."""
        self.triggers += 1
        self._alert("info", "GUARD_TRIGGERED", f"{_seen(judged)}.", step, _details(judged, loss))

    def acted(
        self,
        step: int,
        decision: Decision,
        judged: Judgement,
        *,
        loss: float | None,
        restored: Mapping[str, Any],
        lr_multiplier: float,
        bad_in_a_row: int,
    ) -> None:
        """A step was skipped, rolled back or given up on.

        Args:
            step: the step.
            decision: what was done.
            judged: why.
            loss: its loss; None when unknown.
            restored: ``restored_step``, ``restored`` and ``optimizer_restored`` where a snapshot was restored.
            lr_multiplier: factor on the learning rate from now on.
            bad_in_a_row: bad steps so far since the last applied update.
        """
        self.triggers += 1
        self._bad_row = True
        self.rollbacks += decision.action is Action.ROLLBACK
        self.skips += decision.action is Action.SKIP
        if decision.action is Action.ABORT:
            self.gave_up, self._bad_row = decision.reason, False
        code, severity = _CODES[decision.action]
        if decision.action is Action.ABORT:
            if judged.verdict is Verdict.FAILED:
                code = "GUARD_FAULT"
            elif judged.verdict is Verdict.RESTORE and not restored and not self._observes:
                code = "GUARD_ABORT_NO_SNAPSHOT"
        details = {
            **_details(judged, loss),
            **restored,
            **({"reason": decision.reason} if decision.reason else {}),
            "n_rollbacks": self.rollbacks,
            "n_skips": self.skips,
            "bad_in_a_row": bad_in_a_row,
            "lr_multiplier": lr_multiplier,
            "mode": self._options.mode,
        }
        message = self._sentence(decision, judged, restored)
        if self._observes:
            self._alert("info", "GUARD_TRIGGERED", message, step, {**details, "would": str(decision.action)})
            return
        if severity == "error":
            _logger.error("step %d: %s", step, message)
        else:
            _logger.warning("step %d: %s", step, message)
        self._alert(severity, code, message, step, details)
        self._metrics(step, {"action": str(decision.action), **details})

    def ended(self, step: int, summary: GuardSummary) -> None:
        """The run is over."""
        details = summary.to_dict()
        counts = {"n_rollbacks": summary.total_rollbacks, "n_skips": summary.total_skips}
        self._metrics(step, {"action": "summary", **counts, **details})

    def _sentence(self, decision: Decision, judged: Judgement, restored: Mapping[str, Any]) -> str:
        if judged.verdict is Verdict.FAILED:
            return f"{_seen(judged)}; training goes on without it."
        because = f": {decision.reason}" if decision.reason else ""
        would = "would have " if self._observes else ""
        if decision.action is Action.ROLLBACK:
            back = f" to the state after step {restored['restored_step']}" if restored else ""
            did = f"{would}rolled back{back}"
        elif decision.action is Action.SKIP:
            did = f"{would}skipped the update"
        else:
            ends = "training stops" if decision.stops else "training goes on without it"
            did = f"{would}given up{because}; {ends}" if self._observes else f"gave up{because}; {ends}"
            because = ""
        return f"{_seen(judged)}; the guard {did}{because}."

    def _alert(self, severity: str, code: str, message: str, step: int, context: Mapping[str, Any]) -> None:
        writer = self._writer()
        if writer is not None:
            writer.alert(severity=severity, code=code, message=message, step=step, context=context)

    def _metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        writer = self._writer()
        if writer is not None:
            writer.metrics(step, kind="guard", metrics=metrics)


def _seen(judged: Judgement) -> str:
    saw = _SAW["guard_fault" if judged.trigger is None else judged.trigger.value]
    saw = saw[0].upper() + saw[1:]
    if judged.limit and judged.norm is not None:
        return f"{saw} ({judged.norm:.3g} over a limit of {judged.limit:.3g})"
    return saw


def _details(judged: Judgement, loss: float | None) -> dict[str, Any]:
    found = {"trigger": None if judged.trigger is None else str(judged.trigger), "grad_norm": judged.norm}
    found |= {"limit": judged.limit or None, "loss": loss}
    return {name: value for name, value in found.items() if value is not None}
