"""The telemetry of a loop of one's own: its segment, its steps, its end and its summary."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import torch

from gradience_emit.boundary import attempt
from gradience_emit.controller.options import ControllerOptions
from gradience_emit.emitter import TelemetryWriter, describe_exception
from gradience_emit.summary import summary_path, write_summary
from gradience_schema import ConfigSnapshot

__all__ = ["Journal", "MeanLoss", "is_first_rank"]

_LEFT: Final = "the process ended before finalize() was called"


def is_first_rank() -> bool:
    """Whether this process is rank 0, the one that writes; a process on its own is."""
    distributed: Any = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return bool(distributed.get_rank() == 0)
    return os.environ.get("RANK", "0") in {"", "0"}


class MeanLoss:
    """The mean loss since the last log, over the micro-batches whose update was applied. No device is waited for."""

    def __init__(self) -> None:
        self._kept: list[Any] = []
        self._step: list[Any] = []

    def add(self, loss: Any) -> None:
        """The loss of a micro-batch of the step under way: a tensor, of which the mean is taken, or a number."""
        self._step.append(loss.detach().float().mean() if isinstance(loss, torch.Tensor) else float(loss))

    @property
    def step_losses(self) -> list[Any]:
        """The losses of the step under way."""
        return self._step

    def forget_step(self) -> list[Any]:
        """The losses of the step under way, which is begun anew."""
        losses, self._step = self._step, []
        return losses

    def step_ended(self, *, applied: bool) -> None:
        """The step under way is over; a dropped one does not count."""
        losses = self.forget_step()
        if applied and losses:
            total = sum(losses[1:], start=losses[0])
            self._kept = [self._kept[0] + total, self._kept[1] + len(losses)] if self._kept else [total, len(losses)]

    def read(self) -> float | None:
        """The mean, with which a new one begins; None without a loss. Waits for the device."""
        kept, self._kept = self._kept, []
        return float(kept[0]) / kept[1] if kept else None


class Journal:
    """The segment of one run; on ranks other than the first nothing is written.

    Args:
        options: the controller's options.
        report_fault: told about a fault.

    Attributes:
        writer: the segment; None before the beginning, and on ranks that do not write.
        losses: the loss since the last log.
        final_loss: the loss of the last log; None before the first.
    """

    def __init__(self, options: ControllerOptions, report_fault: Callable[[Exception, str], None]) -> None:
        self.writer: TelemetryWriter | None = None
        self.losses = MeanLoss()
        self.final_loss: float | None = None
        self._options, self._report = options, report_fault
        self._last_lr: Any = None
        self._logged_step = self._step = options.initial_step
        self._uncaught_before = id(_uncaught())

    def open(self) -> None:
        """Open the segment."""
        if not is_first_rank():
            return
        options = self._options
        self.writer = TelemetryWriter(
            options.output_dir / options.filename,
            options.run_id,
            max_str_len=options.telemetry_max_str_len,
            allow_text=options.telemetry_allow_text,
        )
        atexit.register(self._left)

    def begin(self, config: ConfigSnapshot, meta: Mapping[str, Any]) -> None:
        """Write ``run_start``."""
        if self.writer is not None:
            self.writer.run_start(config, meta)

    def is_due(self, step: int) -> bool:
        """Whether this step is logged."""
        return self._options.log_every > 0 and step % self._options.log_every == 0

    def step_ended(self, step: int, *, applied: bool, lr: Any = None, norm: Any = None, factor: float = 1.0) -> None:
        """An optimizer step is over; every so many a ``train_step`` is written.

        Args:
            step: its number.
            applied: whether its update was applied.
            lr: the schedule's learning rate, one or one per parameter group; None when unknown.
            norm: the gradient norm; None when unknown.
            factor: what the guard multiplied the learning rate with.
        """
        self.losses.step_ended(applied=applied)
        self._step, self._last_lr = step, lr
        if self.is_due(step):
            self._log(lr, norm if applied else None, factor)

    def end(
        self, step: int, status: str, reason: str | None, guard: dict[str, Any] | None, spectral: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Write ``run_end`` and ``summary.json``, and release the file.

        Args:
            step: the last step.
            status: ``"ok"``, ``"aborted"`` or ``"error"``.
            reason: why it ended so; None for ``"ok"``.
            guard: what the guard did; None without one.
            spectral: what the spectral monitor came to; None without one.

        Returns:
            The summary.
        """
        atexit.unregister(self._left)
        writer = self.writer
        if status != "error" and step > self._logged_step:
            self._log(self._last_lr, None, 1.0)
        summary: dict[str, Any] = {
            "run_id": None if writer is None else writer.run_id,
            "telemetry": None if writer is None else writer.path.name,
            "total_steps": step,
            "final_loss": self.final_loss,
            "guard": guard,
            "spectral": spectral,
        }
        if writer is not None:
            writer.run_end(status=status, reason=reason, global_step=step)
            path = summary_path(writer.path)
            attempt(lambda: write_summary(path, **summary), lambda fault: self._report(fault, "writing summary.json"))
            writer.close()
        return summary

    def _log(self, lr: Any, norm: Any, factor: float) -> None:
        self._logged_step = self._step
        loss = self.losses.read()
        if loss is not None:
            self.final_loss = loss
        if self.writer is None or not self._options.log_every:
            return
        extras = {
            "grad_norm": None if norm is None else float(norm),
            "lr_multiplier": factor if factor != 1.0 else None,
        }
        known = {name: value for name, value in extras.items() if value is not None}
        self.writer.train_step(self._step, loss=loss, lr=_plain(lr), **known)

    def _left(self) -> None:
        """The process ends, and nobody has said how the run did."""
        uncaught, writer = _uncaught(), self.writer
        if writer is None or writer.ended:
            return
        seen = uncaught is not None and id(uncaught) != self._uncaught_before
        end = describe_exception(uncaught) if seen and uncaught is not None else {"status": "error", "reason": _LEFT}
        writer.run_end(status=end["status"], reason=end["reason"], global_step=self._step)


def _plain(rates: Any) -> float | list[float] | None:
    """One learning rate, or those of the parameter groups where they differ."""
    if not isinstance(rates, list):
        return None if rates is None else float(rates)
    numbers = [float(rate) for rate in cast("list[Any]", rates)]
    return numbers[0] if len(set(numbers)) == 1 else numbers


def _uncaught() -> BaseException | None:
    """The exception that the interpreter reported last, which is the one ending the process when one does."""
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
