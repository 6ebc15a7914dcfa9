"""Follows a callback's trainer: which segment is written, and when it begins and ends."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Protocol

from gradience_emit.boundary import attempt
from gradience_emit.emitter import describe_exception
from gradience_emit.hf.config import GradienceCallbackConfig
from gradience_emit.hf.journal import Journal
from gradience_emit.hf.meta import run_meta
from gradience_emit.hf.recording import Recording, newest_run_id, segment_base, shared_run_id
from gradience_emit.hf.snapshot import RunSources, schedule, snapshot_config
from gradience_emit.hf.train_split import TrainSplit, why_not_measured
from gradience_emit.hf.trainer import NormHook, StepHook, TrainHook, TrainObserver, find_trainer

__all__ = ["Session"]

_RESTARTED = "training was started again before it had finished"


class _Callback(TrainObserver, Protocol):
    def report_fault(self, fault: Exception, where: str) -> None: ...


class Session:
    """The life of one callback.

    Attributes:
        journal: the run being written; None before it begins, and on ranks that do not write.
        gradients_are_sharded: whether a rank holds only parts of the gradients, whose norm says nothing of the whole.
    """

    def __init__(self, options: GradienceCallbackConfig, callback: _Callback) -> None:
        self.journal: Journal | None = None
        self.gradients_are_sharded = False
        self._options = options
        self._callback_ref = weakref.ref(callback)
        self._trainer_ref: weakref.ref[Any] | None = None
        self._train_call = 0
        self._began_in_call = False
        self._trained = False
        self._split = TrainSplit(options.train_eval_samples, options.train_eval_seed)
        self._split_step: int | None = None
        self._split_failed = False

    @property
    def trainer(self) -> Any | None:
        """The trainer; None until found, and when it is gone."""
        return None if self._trainer_ref is None else self._trainer_ref()

    @property
    def _callback(self) -> _Callback:
        callback = self._callback_ref()
        if callback is None:
            raise ReferenceError("the callback does not exist any more")
        return callback

    def attach(self, *, at_construction: bool = False) -> None:
        """Find the trainer that is calling and hook its ``train``; a run of an earlier trainer is closed.

        A trainer that is only being built is not followed yet: another one may be training.
        """
        trainer = find_trainer(self._callback)
        if trainer is None:
            return
        hook = TrainHook.on(trainer, self._callback)
        if hook is None:
            hook = TrainHook(trainer, self._callback, at_construction=at_construction)
        if not at_construction:
            hook.let_go()
            self._follow(trainer)

    def _follow(self, trainer: Any) -> None:
        if self.trainer is trainer:
            return
        self._close_journal()
        self._trainer_ref = weakref.ref(trainer)
        self._split_step, self._split_failed = None, False

    def train_called(self, trainer: Any) -> None:
        """``train`` was called: a new training, whatever was before."""
        self._follow(trainer)
        self._train_call += 1
        self._began_in_call = False

    def begin_training(self, args: Any, state: Any, event: Mapping[str, Any]) -> None:
        """Training begins: in the segment an evaluation before it opened, else in a new one."""
        self.attach()
        self._began_in_call = True
        if self._trained:
            self._split_step = None
        self._trained = True
        trainer = self.trainer
        self.gradients_are_sharded = bool(
            getattr(trainer, "is_fsdp_enabled", False) or getattr(trainer, "is_deepspeed_enabled", False)
        )
        journal = self._journal_to_train_in(args, state, event)
        if journal is not None:
            journal.begin_training(state, _samples_per_batch(trainer, args, state), self._train_call)
        if trainer is not None and (journal is not None or self._options.enable_guard):
            self.unhook_steps(trainer)
            StepHook(trainer, self._callback)
            NormHook(trainer.accelerator, self._callback)

    def _journal_to_train_in(self, args: Any, state: Any, event: Mapping[str, Any]) -> Journal | None:
        journal, resume_step = self.journal, state.global_step or None
        run_id = None
        if journal is not None and not journal.recording.ended:
            if not journal.recording.training and resume_step is None:
                journal.recording.writer.metrics(None, kind="schedule", metrics=schedule(args, state))
                return journal
            if journal.recording.training and journal.train_call == self._train_call > 0:
                run_id = journal.recording.writer.run_id  # `auto_find_batch_size` tries again with a smaller batch
            journal.recording.abandon(_RESTARTED)
        before = None if journal is None else journal.recording
        evaluated_only = before.writer.run_id if before is not None and not before.training else None
        self._close_journal()
        return self._open(args, state, event, run_id=run_id, resume_step=resume_step, not_run_id=evaluated_only)

    def journal_for(self, args: Any, state: Any, event: Mapping[str, Any]) -> Journal | None:
        """The run being written; begun now when there is none and this rank writes."""
        return self.journal or self._open(args, state, event)

    def end_training(self, state: Any, control: Any, stopped_because: str | None = None) -> None:
        """Training ended of itself, or because the guard stopped it."""
        if self.journal is not None:
            self.journal.finish(state, control, stopped_because)
        if self.trainer is not None:
            self.unhook_steps(self.trainer)

    def train_failed(self, trainer: Any, error: BaseException) -> None:
        """An exception is leaving ``train``. One that came before training began gets a segment too."""
        state = trainer.state
        if not self._began_in_call and (self.journal is None or self.journal.recording.ended):
            self._close_journal()
            self._open(trainer.args, state, {"model": trainer.model}, alone=True)
        if self.journal is not None and not self.journal.recording.ended:
            self.journal.fail(state.global_step, error)

    def batch_failed(self, error: Exception) -> None:
        """Remember, as text, what a micro-batch ended in: with no hook on ``train`` nothing else will tell."""
        if self.journal is not None:
            self.journal.recording.failure = describe_exception(error)

    def unhook_steps(self, trainer: Any) -> None:
        """Take this callback's hooks from the methods that a training step calls."""
        for hook in (StepHook.on(trainer, self._callback), NormHook.on(trainer.accelerator, self._callback)):
            if hook is not None:
                hook.remove()

    def evaluate_train_split(self, state: Any) -> dict[str, Any] | None:
        """The metrics of the training subset, once per step; None when not asked for or not possible."""
        trainer = self.trainer
        if not self._options.train_eval_samples or self._split_failed or self._split_step == state.global_step:
            return None
        if why_not_measured(trainer) is not None:
            return None
        self._split_step = state.global_step
        return attempt(lambda: self._split.evaluate(trainer), self._give_up_split)

    def _give_up_split(self, fault: Exception) -> None:
        self._split_failed = True
        self._callback.report_fault(fault, "the train-split evaluation")
        if self.journal is not None:
            self.journal.recording.writer.alert(
                severity="warning",
                code="TRAIN_EVAL_FAILED",
                message="The train split could not be evaluated and will not be tried again.",
                step=self._split_step,
                context={"error": describe_exception(fault)["reason"]},
            )

    def _open(
        self,
        args: Any,
        state: Any,
        event: Mapping[str, Any],
        *,
        run_id: str | None = None,
        resume_step: int | None = None,
        not_run_id: str | None = None,
        alone: bool = False,
    ) -> Journal | None:
        """Begin a segment with its ``run_start``; None on a rank that does not write.

        ``alone``: the other ranks are not doing this too, so nothing may be agreed upon with them.
        """
        options, first = self._options, bool(state.is_world_process_zero)
        if not first and not options.rank_telemetry:
            return None
        base = segment_base(options.output_dir or args.output_dir, options.filename, 0 if first else args.process_index)
        wanted = options.run_id or run_id or (newest_run_id(base, not_run_id) if resume_step else None)
        if options.rank_telemetry and not alone:
            wanted = shared_run_id(wanted)
        recording = Recording(options, base, wanted)
        journal = self.journal = Journal(recording, args, options.telemetry_interval)
        sources = self._sources(args, state, event)
        config = snapshot_config(sources, lambda fault: self._callback.report_fault(fault, "the config snapshot"))
        meta = attempt(
            lambda: run_meta(sources.model, sources.trainer, args, allow_hostname=options.allow_hostname),
            self._meta_unknown,
        )
        meta |= self._own_meta(None if first else args.process_index, resume_step)
        recording.writer.run_start(config, meta)
        return journal

    def _meta_unknown(self, fault: Exception) -> dict[str, Any]:
        self._callback.report_fault(fault, "the run's meta")
        return {"framework": "huggingface"}

    def _own_meta(self, rank: int | None, resume_step: int | None) -> dict[str, Any]:
        meta: dict[str, Any] = {"rank": rank, "resume_step": resume_step}
        if self._options.train_eval_samples:
            reason = why_not_measured(self.trainer)
            wanted = {"samples": self._options.train_eval_samples, "seed": self._options.train_eval_seed}
            meta["train_eval"] = wanted if reason is None else {"not_measured": reason}
        return {key: value for key, value in meta.items() if value is not None}

    def _sources(self, args: Any, state: Any, event: Mapping[str, Any]) -> RunSources:
        trainer = self.trainer
        hook = None if trainer is None else TrainHook.on(trainer, self._callback)
        dataset = getattr(trainer, "train_dataset", None)
        if dataset is None:
            dataset = getattr(event.get("train_dataloader"), "dataset", None)
        return RunSources(
            options=self._options,
            args=args,
            state=state,
            model=event.get("model"),
            trainer=trainer,
            optimizer=event.get("optimizer"),
            train_dataset=dataset,
            own_optimizer=None if hook is None else hook.own_optimizer,
            own_scheduler=None if hook is None else hook.own_scheduler,
        )

    def _close_journal(self) -> None:
        if self.journal is not None:
            self.journal.recording.close()
            self.journal = None


def _samples_per_batch(trainer: Any, args: Any, state: Any) -> int:
    """Examples of one micro-batch over all data-parallel ranks."""
    if trainer is not None:
        return int(trainer.get_total_train_batch_size(args) // args.gradient_accumulation_steps)
    return int((state.train_batch_size or args.train_batch_size) * args.world_size)
