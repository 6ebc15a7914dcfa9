"""Records a Hugging Face training run as telemetry/v1: ``Trainer(..., callbacks=[GradienceCallback()])``.

Works with `transformers.Trainer` and its subclasses, such as TRL's ``SFTTrainer``.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

from transformers import TrainerCallback

from gradience_emit.boundary import attempt, never_raises
from gradience_emit.hf.config import GradienceCallbackConfig, build_config
from gradience_emit.hf.language import loss_is_plain_cross_entropy
from gradience_emit.hf.rows import Evaluation, read_evaluation
from gradience_emit.hf.session import Session
from gradience_emit.hf.watch import Watch

__all__ = ["GradienceCallback"]

_EARLY_ROWS: Final = 100
_logger = logging.getLogger("gradience_emit")


class GradienceCallback(TrainerCallback):  # type: ignore[misc] # transformers is Any to mypy
    """Writes ``run.jsonl`` into the trainer's output folder: configuration, steps, evaluations, speed, memory, the end.

    Training is never stopped, slowed down or changed by it: the losses and the final weights are those of a run without
    the callback, bit for bit. Whatever fails in here is counted, logged once and otherwise ignored. Only with
    ``enable_guard=True`` (experimental, see docs/guard.md) does it act, and then only on a fault.

    In distributed training only rank 0 writes, and what it counts itself (non-finite losses, memory) is its own.

    Args:
        config: the options; the defaults record a whole run.
        **keywords: single options by name, over those of ``config``.

    Raises:
        TypeError: an unknown keyword; the message names the nearest known one.
        ValueError: an option out of range.
    """

    def __init__(self, config: GradienceCallbackConfig | None = None, **keywords: Any) -> None:
        self.config = build_config(config, keywords)
        self._session = Session(self.config, self)
        self._early_rows: list[tuple[int, dict[str, Any]]] = []
        self._faults = 0
        self._watch = Watch(self.config, lambda: self._session.journal, self.report_fault)

    @property
    def path(self) -> Path | None:
        """The segment being written; None before the run has begun, and on ranks that do not write."""
        journal = self._session.journal
        return None if journal is None else journal.recording.writer.path

    @property
    def run_id(self) -> str | None:
        """The identifier of the run being written; None as for `path`."""
        journal = self._session.journal
        return None if journal is None else journal.recording.writer.run_id

    def report_fault(self, fault: Exception, where: str) -> None:
        """Count a fault inside the callback; the first is logged with its traceback."""
        self._faults += 1
        journal = self._session.journal
        if journal is not None:
            journal.recording.writer.report_fault(fault, where)
        elif self._faults == 1:
            _logger.warning("telemetry fault in %s; training goes on (reported once)", where, exc_info=fault)

    @never_raises
    def on_init_end(self, /, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The trainer is built: hook its ``train``."""
        del args, state, control, kwargs
        self._session.attach(at_construction=True)

    def on_train_begin(self, /, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the segment, or go on in the one that an evaluation opened; begin guarding, where that is asked for.

        Raises:
            GuardUnsupportedError: this training cannot be guarded.
        """
        del control
        self._begin_recording(args, state, kwargs)
        self._watch.begin(self._session.trainer, args, state, kwargs)

    @never_raises
    def on_step_begin(self, /, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step's batches are fetched, and its first forward pass is about to run."""
        del args, state, control, kwargs
        self._watch.step_began()

    @never_raises
    def on_substep_end(self, /, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count a micro-batch."""
        del args, state, control, kwargs
        if self._session.journal is not None:
            self._session.journal.batch_ended()

    @never_raises
    def on_pre_optimizer_step(self, /, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count a step whose loss or gradients are not finite, without waiting for the device; let the guard decide."""
        del args
        self._count_step(kwargs)
        self._watch.before_update(state, control)

    @never_raises
    def on_optimizer_step(self, /, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The optimizer's step is done."""
        del args, state, control, kwargs
        self._watch.updated()

    @never_raises
    def _count_step(self, event: dict[str, Any]) -> None:
        journal = self._session.journal
        if journal is not None:
            if not self._session.gradients_are_sharded:
                journal.probe.saw_gradients(event["optimizer"])
            journal.probe.step_is_complete()

    @never_raises
    def on_step_end(self, /, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count a step; every telemetry interval write its speed and the memory; let the guard look at the state."""
        del args, kwargs
        if self._session.journal is not None:
            self._session.journal.step_ended(state)
        self._watch.step_ended(state, control)

    @never_raises
    def on_log(self, /, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write a logged row as what it is."""
        del args, control
        logs: dict[str, Any] = dict(kwargs.get("logs") or {})
        if self._session.journal is not None:
            self._session.journal.row(state.global_step, logs)
        elif len(self._early_rows) < _EARLY_ROWS:  # a row alone begins no run; it waits for one
            self._early_rows.append((state.global_step, logs))

    def on_evaluate(self, /, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the evaluation, and evaluate the training subset when that is asked for."""
        del control
        self._record_evaluation(args, state, kwargs, default_split="val")
        self._record_train_split(args, state, kwargs)
        self._resume_clock()

    def on_predict(self, /, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Write the metrics of a prediction, as split ``test`` unless its prefix says otherwise."""
        del control
        self._record_evaluation(args, state, {**kwargs, "metrics": metrics}, default_split="test")
        self._resume_clock()

    @never_raises
    def on_save(self, /, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A checkpoint was written: its time is not training time."""
        del args, state, control, kwargs
        self._resume_clock()

    @never_raises
    def on_train_end(self, /, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the end of the run."""
        del args, kwargs
        self._watch.end(state)
        self._session.end_training(state, control, self._watch.stopped_because)

    @never_raises
    def train_called(self, /, trainer: Any) -> None:
        """``trainer.train`` was called."""
        self._session.train_called(trainer)

    @never_raises
    def train_failed(self, /, trainer: Any, error: BaseException) -> None:
        """An exception is leaving ``trainer.train``: write the end of the run."""
        self._watch.end(trainer.state, complete=False)
        self._session.train_failed(trainer, error)

    @never_raises
    def train_left(self, /, trainer: Any) -> None:
        """``trainer.train`` is over."""
        self._session.unhook_steps(trainer)

    @never_raises
    def batch_trained(self, /, loss: Any) -> None:
        """A micro-batch was trained on."""
        self._watch.saw_loss(loss)
        if self._session.journal is not None:
            self._session.journal.probe.saw_loss(loss)

    @never_raises
    def norm_computed(self, norm: Any) -> None:
        """The trainer computed the gradient norm of a step."""
        self._watch.saw_norm(norm)
        if self._session.journal is not None:
            self._session.journal.probe.saw_norm(norm)

    @never_raises
    def batch_failed(self, /, error: Exception) -> None:
        """A micro-batch ended in an exception."""
        self._session.batch_failed(error)

    @never_raises
    def _begin_recording(self, /, args: Any, state: Any, event: dict[str, Any]) -> None:
        self._session.begin_training(args, state, event)
        self._write_early_rows()

    @never_raises
    def _record_evaluation(self, /, args: Any, state: Any, event: dict[str, Any], default_split: str) -> None:
        self._session.attach()
        journal = self._session.journal_for(args, state, event)
        if journal is not None:
            self._write_early_rows()
            evaluation = read_evaluation(event.get("metrics") or {}, default_split)
            journal.evaluation(
                state.global_step,
                evaluation,
                samples=_examples(event.get("eval_dataloader")),
                is_cross_entropy=loss_is_plain_cross_entropy(self._session.trainer, event.get("model"), args),
            )

    @never_raises
    def _record_train_split(self, /, args: Any, state: Any, event: dict[str, Any]) -> None:
        # on every rank, whether it writes or not: the evaluation gathers from all of them
        metrics = self._session.evaluate_train_split(state)
        journal = self._session.journal
        if metrics is not None and journal is not None:
            journal.evaluation(
                state.global_step,
                Evaluation("train", metrics),
                samples=None,
                is_cross_entropy=loss_is_plain_cross_entropy(self._session.trainer, event.get("model"), args),
            )

    @never_raises
    def _resume_clock(self) -> None:
        if self._session.journal is not None:
            self._session.journal.resume_clock()

    def _write_early_rows(self) -> None:
        journal, rows = self._session.journal, self._early_rows
        if journal is not None:
            self._early_rows = []
            for step, logs in rows:
                journal.row(step, logs)

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config}  # an open file and a live trainer do not travel

    def __setstate__(self, state: dict[str, Any]) -> None:
        GradienceCallback.__init__(self, state["config"])


def _examples(dataloader: Any) -> int | None:
    """The examples that a data loader runs over; None when its data has no length."""
    dataset = getattr(dataloader, "dataset", None)
    return None if dataset is None else attempt(lambda: len(dataset), lambda _: None)
