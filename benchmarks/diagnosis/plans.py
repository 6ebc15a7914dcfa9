"""How training goes in each plan: as usual, or with something planted in it.

A plan is a sequence of parts, each of which runs in a process of its own: a run that is killed and resumed has two.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from typing import Any

import torch
from transformers import EarlyStoppingCallback, TrainerCallback

from benchmarks.diagnosis.checkpoints import run_ahead, strip_states, weights_of
from benchmarks.diagnosis.faulty import (
    BadBatches,
    LeakingTrainer,
    NanBatch,
    OtherSchedule,
    OutOfMemory,
    StaleOptimizer,
    WaitingTrainer,
    ZeroLoss,
)
from benchmarks.diagnosis.jobs import Job, trainer_of
from gradience_train.tasks.encoding import IGNORED_LABEL, Row
from gradience_train.warm_start import warm_start

Part = Callable[[Job], None]
_READ_BEFORE = 6


class _StopAt(TrainerCallback):  # type: ignore[misc] # transformers is Any to mypy
    """Ends training after a step, as a time limit does."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, kwargs
        if state.global_step >= self._step:
            control.should_training_stop = True


class _KillAt(TrainerCallback):  # type: ignore[misc]
    """Ends this process after a step with a signal that nobody can catch, as the kernel does when memory is short."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control, kwargs
        if state.global_step >= self._step:
            os.kill(os.getpid(), signal.SIGKILL)


def plain(job: Job) -> None:
    """Train to the end; keep the adapter when it is to be audited."""
    trainer = trainer_of(job)
    trainer.train()
    if job.recipe.audit:
        trainer.model.save_pretrained(job.out / "peft", save_embedding_layers=False)


def knowing(job: Job) -> None:
    """Train a base that does the task already to some degree, as large models do, and so has something to lose."""
    warm_start(job.model, job.train * _READ_BEFORE, batch_size=32, lr=1e-3)
    trainer_of(job).train()


def slow_start(job: Job) -> None:
    """Hardly move for 45 % of the run, and then train as usual, by a schedule that the trainer is given."""
    late = int(0.45 * job.recipe.steps)

    def low_then_high(model: Any) -> tuple[Any, Any]:
        optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=job.learning_rate)
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.004 if step < late else 1.0)

    trainer_of(job, optimizers=low_then_high).train()


def early_stopping(job: Job) -> None:
    """Stop after two evaluations without a better loss, and go back to the best weights."""
    best: dict[str, Any] = {
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
    }
    trainer_of(job, EarlyStoppingCallback(early_stopping_patience=2), **best).train()


def interrupted(job: Job) -> None:
    """Stop in the middle, or be killed there."""
    end = _KillAt if job.recipe.variant == "killed" else _StopAt
    trainer_of(job, end(job.recipe.at)).train()


def resumed(job: Job) -> None:
    """Go on from the last checkpoint, complete or damaged as the variant says."""
    variant = job.recipe.variant
    if variant == "from_zero":
        trainer = trainer_of(job)
        trainer.model.load_state_dict(weights_of(job.out), strict=False)
        trainer.train()
        return
    if variant == "weights_only":
        strip_states(job.out)
    elif variant == "ahead":
        run_ahead(job.out, steps=17)
    trainer_of(job).train(resume_from_checkpoint=True)


def frozen(job: Job) -> None:
    """Train an adapter that cannot learn."""
    job.head = False  # else the classifier's head would learn in its place
    if job.recipe.variant == "stale_optimizer":
        trainer_of(job, kind=StaleOptimizer).train()
        return
    trainer = trainer_of(job)
    for module in trainer.model.modules():
        if hasattr(module, "lora_A"):
            module.set_scale("default", 0.0)  # as a comparison with the base leaves it
    trainer.train()


def ignored_labels(job: Job) -> None:
    """Mask every label of every split."""
    job.train, job.val = ([_ignored(row) for row in rows] for rows in (job.train, job.val))
    if job.recipe.variant == "zero_loss":
        trainer_of(job, kind=ZeroLoss).train()
    else:
        trainer_of(job).train()


def _ignored(row: Row) -> Row:
    labels: Any = row["labels"]
    return row | {"labels": IGNORED_LABEL if isinstance(labels, int) else [IGNORED_LABEL] * len(labels)}


def overlap(job: Job) -> None:
    """Hold out rows that are trained on: all of them, or a third."""
    held_out = len(job.train) // 3 if job.recipe.variant == "third" else len(job.train)
    job.val = [dict(row) for row in job.train[:held_out]]
    trainer_of(job).train()


def nan_batch(job: Job) -> None:
    """Meet one batch whose hidden states overflow."""
    trainer_of(job, kind=NanBatch.at(job.recipe.at)).train()


def bad_batches(job: Job) -> None:
    """Meet a few bad batches, as many as fall into one log and one more."""
    recipe = job.recipe
    trainer_of(job, kind=BadBatches.at(recipe.at, recipe.logging, garbled=recipe.variant == "garbled")).train()


def other_schedule(job: Job) -> None:
    """Step through another schedule than the declared one."""
    trainer_of(job, kind=OtherSchedule.of(job.recipe.variant)).train()


def killed(job: Job) -> None:
    """Be killed, and stay dead."""
    trainer_of(job, _KillAt(job.recipe.at)).train()


def out_of_memory(job: Job) -> None:
    """Ask for memory that is not there: a device's, as torch reports it, or this machine's."""
    trainer = trainer_of(job, kind=OutOfMemory.at(job.recipe.at, on_host=job.recipe.variant == "host"))
    try:
        trainer.train()
    except (RuntimeError, torch.OutOfMemoryError) as error:
        if "memory" not in str(error):
            raise


def wrong_total(job: Job) -> None:
    """Declare, and schedule for, the steps that there would be without gradient accumulation."""
    recipe = job.recipe
    an_epoch = -(-len(job.train) // (recipe.batch * recipe.accumulation))
    epochs = max(1, round(recipe.steps / an_epoch))
    wrong = -(-len(job.train) // recipe.batch) * epochs
    declared = {"max_steps": wrong, "epochs": epochs, "num_train_examples": len(job.train), "world_size": 1}
    trainer_of(job, kind=OtherSchedule.of("total", wrong), declared=declared, max_steps=epochs * an_epoch).train()


def slowing(job: Job) -> None:
    """Take longer for each step: evenly more, or from the middle on."""
    steps = job.recipe.steps
    if job.recipe.variant == "late":
        waits = [0.4 + (step > steps / 2) for step in range(steps)]
    else:
        waits = [0.4 + 2.0 * step / steps for step in range(steps)]
    trainer_of(job, kind=WaitingTrainer.of(waits)).train()


def uneven(job: Job) -> None:
    """Take now more and now less for a step, and twice far more, as a busy file system has it."""
    draw = random.Random(f"waits {job.cell.seed}")
    waits = [draw.lognormvariate(-1.2, 0.4) for _ in range(job.recipe.steps)]
    for step in draw.sample(range(job.recipe.steps), k=2):
        waits[step] += 5.0
    trainer_of(job, kind=WaitingTrainer.of(waits)).train()


def leaking(job: Job) -> None:
    """Keep some tensors of each step."""
    trainer_of(job, kind=LeakingTrainer).train()


PLANS: dict[str, tuple[Part, ...]] = {
    "plain": (plain,),
    "knowing": (knowing,),
    "slow_start": (slow_start,),
    "early_stopping": (early_stopping,),
    "resumed": (interrupted, resumed),
    "frozen": (frozen,),
    "ignored_labels": (ignored_labels,),
    "overlap": (overlap,),
    "nan_batch": (nan_batch,),
    "bad_batches": (bad_batches,),
    "other_schedule": (other_schedule,),
    "killed": (killed,),
    "out_of_memory": (out_of_memory,),
    "wrong_total": (wrong_total,),
    "slowing": (slowing,),
    "uneven": (uneven,),
    "leaking": (leaking,),
}
"""The parts of each plan, in order."""
