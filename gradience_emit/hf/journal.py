"""Writes what happens during one recorded run: steps, evaluations, speed, memory, non-finite values, the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gradience_emit.boundary import attempt
from gradience_emit.emitter import describe_exception
from gradience_emit.hf.clock import StepClock
from gradience_emit.hf.probe import NonfiniteCounts, NonfiniteProbe
from gradience_emit.hf.recording import Recording
from gradience_emit.hf.rows import Evaluation, perplexity, row_kind, step_fields
from gradience_emit.memory import read_memory

__all__ = ["Journal"]

_PARAMETERS: Final = frozenset({"self", "event", "step"})
"""Names of the writer's own parameters, which a logged value of that name must not meet."""


class Journal:
    """The events of one recording.

    Attributes:
        recording: the segment.
        probe: counts this rank's non-finite losses and gradients.
        train_call: which call of ``trainer.train`` the recorded training belongs to.
        last_loss: the training loss of the last logged row; None before the first.
        lr_multiplier: what the guard multiplies the logged learning rate with.
    """

    def __init__(self, recording: Recording, args: Any, telemetry_interval: int) -> None:
        self.recording = recording
        self.probe = NonfiniteProbe()
        self.train_call = 0
        self.last_loss: float | None = None
        self.lr_multiplier = 1.0
        self._writer = recording.writer
        self._interval = telemetry_interval
        self._clock: StepClock | None = None
        self._counts_tokens = args.include_num_input_tokens_seen not in {False, "no"}
        self._filters = bool(args.logging_nan_inf_filter)
        self._scales_gradients = bool(args.fp16)
        self._alerted: set[str] = set()

    def begin_training(self, state: Any, samples_per_batch: int, train_call: int) -> None:
        """Training begins, or begins again after an evaluation."""
        self.recording.training = True
        self.train_call = train_call
        self._clock = StepClock(samples_per_batch, state.num_input_tokens_seen if self._counts_tokens else None)

    def batch_ended(self) -> None:
        """A micro-batch of a step not yet complete was trained on."""
        if self._clock is not None:
            self._clock.batch_ended()

    def step_ended(self, state: Any) -> None:
        """An optimizer step is done; every interval its speed and the memory are written."""
        clock = self._clock
        if clock is None:
            return
        clock.batch_ended()
        clock.step_ended()
        if self._counts_tokens:
            clock.tokens_seen(state.num_input_tokens_seen)
        if self._interval and state.global_step % self._interval == 0:
            self._measure(state.global_step, clock)

    def resume_clock(self) -> None:
        """An evaluation or a save is over."""
        if self._clock is not None:
            self._clock.resume()

    def row(self, step: int, logs: Mapping[str, Any]) -> None:
        """A row that the trainer logged. Evaluation rows are left to `evaluation`."""
        kind = row_kind(logs)
        if kind == "step" and not self.recording.ended:
            self._step_row(step, logs)
        elif kind != "evaluation":
            self._writer.metrics(step, kind="train_summary" if kind == "summary" else "log", metrics=dict(logs))

    def evaluation(self, step: int, evaluation: Evaluation, *, samples: int | None, is_cross_entropy: bool) -> None:
        """One evaluation, completed by its number of samples and, for a cross-entropy, the perplexity."""
        metrics = dict(evaluation.metrics)
        if samples is not None:
            metrics.setdefault("n", samples)
        if is_cross_entropy and not metrics.keys() & {"ppl", "perplexity"}:
            value = perplexity(metrics.get("loss"))
            if value is not None:
                metrics["ppl"] = value
        self._writer.eval(step, split=evaluation.split, metrics=metrics, **_beside(evaluation.beside))

    def finish(self, state: Any, control: Any, stopped_because: str | None = None) -> None:
        """Training is over: as ``ok``, or ``aborted`` when it was stopped before its last step.

        Args:
            state: the trainer's state.
            control: its control flags.
            stopped_because: why the guard stopped it; None when it did not.
        """
        step, planned = state.global_step, state.max_steps
        if self._interval and self._clock is not None and self._clock.unreported_steps:
            self._measure(step, self._clock)
        counts = self._observed(step)
        if stopped_because is not None or (control.should_training_stop and step < planned):
            who = "stopped early" if stopped_because is None else f"stopped by the guard ({stopped_because})"
            self._end(step, counts, {"status": "aborted", "reason": f"{who} at step {step} of {planned}"})
        else:
            self._end(step, counts, {"status": "ok"})

    def fail(self, step: int, error: BaseException) -> None:
        """An exception ended training. A device is not waited for: what it still runs may never end."""
        counts = attempt(lambda: self.probe.read(wait=False), lambda _: NonfiniteCounts())
        self._alert(step, counts)
        self._end(step, counts, describe_exception(error))

    def _end(self, step: int, counts: NonfiniteCounts, outcome: Mapping[str, str]) -> None:
        extras: dict[str, Any] = {"global_step": step, **counts.fields()}
        self.recording.finish(outcome["status"], outcome.get("reason"), extras)

    def _step_row(self, step: int, logs: Mapping[str, Any]) -> None:
        self.recording.training = True
        fields = step_fields(logs)
        tokens = fields.get("tokens")
        if self._clock is not None and isinstance(tokens, (int, float)):
            self._clock.tokens_seen(tokens)
        loss = fields.get("loss")
        if isinstance(loss, (int, float)):
            self.last_loss = float(loss)
        if self.lr_multiplier != 1.0:
            fields["lr_multiplier"] = self.lr_multiplier
        counts = attempt(self.probe.read, lambda _: NonfiniteCounts())
        self._writer.train_step(step, **_keywords({**fields, **counts.fields()}))
        self._alert(step, counts)

    def _observed(self, step: int) -> NonfiniteCounts:
        counts = attempt(self.probe.read, lambda _: NonfiniteCounts())
        self._alert(step, counts)
        return counts

    def _measure(self, step: int, clock: StepClock) -> None:
        speed, memory = clock.report(), read_memory()
        if speed:
            self._writer.metrics(step, kind="throughput", metrics=speed)
        if memory:
            self._writer.metrics(step, kind="memory", metrics=memory)

    def _alert(self, step: int, counts: NonfiniteCounts) -> None:
        """An alert the first time that either count is not zero."""
        hidden = " The trainer's log hides it (logging_nan_inf_filter)." if self._filters else ""
        skipped = " With fp16 the gradient scaler skips such steps." if self._scales_gradients else ""
        found = (
            ("NONFINITE_LOSS", "error", counts.loss_steps, f"The training loss was NaN or infinite.{hidden}"),
            (
                "NONFINITE_GRAD",
                "warning" if self._scales_gradients else "error",
                counts.grad_steps,
                f"Gradients were NaN or infinite.{skipped}",
            ),
        )
        for code, severity, count, message in found:
            if count and code not in self._alerted:
                self._alerted.add(code)
                context = {
                    **counts.fields(),
                    "logging_nan_inf_filter": self._filters,
                    "fp16_grad_scaler": self._scales_gradients,
                }
                self._writer.alert(severity=severity, code=code, message=message, step=step, context=context)


def _keywords(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {f"x_{key}" if key in _PARAMETERS else str(key): value for key, value in fields.items()}


def _beside(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in _keywords(fields).items() if key not in {"split", "metrics"}}
