"""From a cell to a trainer: the base model, the rows and the arguments, before anything is planted in them."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

from benchmarks.diagnosis.cells import Cell
from benchmarks.diagnosis.conditions import condition_of
from benchmarks.diagnosis.recipes import Recipe
from benchmarks.diagnosis.recorder import PlainRecorder
from gradience import GradienceCallback
from gradience_train.embedded import ARITHMETIC, QA, SENTIMENT, TaskSource
from gradience_train.tasks.encoding import IGNORED_LABEL, Row
from gradience_train.tasks.scoring import keep_best_token
from gradience_train.tiny_models import SMALL, TINY

SOURCES: dict[str, TaskSource] = {"qa": QA, "arithmetic": ARITHMETIC, "sentiment": SENTIMENT}
SIZES = {size.name: size for size in (TINY, SMALL)}
GOOD_LR = {
    ("qa", "tiny"): 5e-3,
    ("qa", "small"): 3e-3,
    ("arithmetic", "tiny"): 4e-3,
    ("arithmetic", "small"): 2e-3,
    ("sentiment", "tiny"): 4e-3,
    ("sentiment", "small"): 2e-3,
}
"""Peak learning rate that suits task and size, with the usual layers and a rank of 8."""
_USUAL = {"CAUSAL_LM": ["q_proj", "v_proj", "down_proj"], "SEQ_CLS": ["query", "value"]}
_ONE = {"CAUSAL_LM": ["layers.0.self_attn.q_proj"], "SEQ_CLS": ["layer.0.attention.self.query"]}


@dataclass(slots=True)
class Job:
    """A run that can begin.

    Attributes:
        cell: Which run.
        recipe: How it is trained.
        out: Folder of its telemetry and checkpoints.
        source: Its task.
        model: A base model of its own, without an adapter.
        train: Rows to train on.
        val: Rows to evaluate on.
        head: Whether a classifier's head is trained beside the adapter, as PEFT does by default.
    """

    cell: Cell
    recipe: Recipe
    out: Path
    source: TaskSource
    model: Any
    train: list[Row]
    val: list[Row]
    head: bool = True

    @property
    def learning_rate(self) -> float:
        """Peak learning rate."""
        return GOOD_LR[self.cell.task, self.cell.size] * self.recipe.lr_factor

    @property
    def eval_steps(self) -> int:
        """Steps between evaluations; one more than there are when there is none."""
        recipe = self.recipe
        return recipe.steps // recipe.evaluations if recipe.evaluations else recipe.steps + 1


def job_of(cell: Cell, out: Path, bases: Path) -> Job:
    """Make the rows and a copy of the base; `bases` keeps pre-trained ones between processes."""
    recipe = condition_of(cell).recipe_of(cell)
    source = SOURCES[cell.task]
    model, tokenizer = base_of(cell.task, cell.size, cell.seed, bases)
    splits = source.splits(cell.seed, 0.0 if recipe.clean else None)
    train, val = row_by_row(source.rows(splits.train + splits.val, tokenizer), cell.seed)
    if recipe.rows:
        train = train[: recipe.rows]
    if recipe.noise is not None:
        train = with_random_answers(train, recipe.noise, cell.seed)
    return Job(cell, recipe, out, source, copy.deepcopy(model), train, val)


def row_by_row(rows: list[Row], seed: int) -> tuple[list[Row], list[Row]]:
    """Split rows at random into three quarters to train on and one to evaluate on, as most people do.

    The tasks' own `val` holds out facts, which costs these small models a gap of half a nat from the first steps on.
    What is held out here is a row, and another row may ask for the same fact: a run that goes well has a small gap.
    """
    shuffled = random.Random(f"rows {seed}").sample(rows, k=len(rows))
    held_out = len(rows) // 4
    return shuffled[held_out:], shuffled[:held_out]


@functools.cache
def base_of(task: str, size: str, seed: int, bases: Path) -> tuple[Any, Any]:
    """Return the pre-trained base and its tokenizer; made once in this process, and once for all that share `bases`."""
    source, kept = SOURCES[task], bases / f"{task}-{size}-s{seed}.pt"
    if kept.exists():
        model, tokenizer = source.base(seed, size=SIZES[size], steps=0)
        model.load_state_dict(torch.load(kept, weights_only=True))
        return model, tokenizer
    model, tokenizer = source.base(seed, size=SIZES[size])
    bases.mkdir(parents=True, exist_ok=True)
    part = kept.with_name(f"{kept.name}.part{id(model)}")
    torch.save(model.state_dict(), part)
    part.replace(kept)
    return model, tokenizer


def with_random_answers(rows: list[Row], share: float, seed: int) -> list[Row]:
    """Return the rows with that share of answers drawn from all answers of the rows."""
    draw = random.Random(f"noise {seed}")
    answers = [answer_of(row) for row in rows]
    wrong = set(draw.sample(range(len(rows)), k=round(share * len(rows))))
    return [with_answer(row, draw.choice(answers)) if place in wrong else row for place, row in enumerate(rows)]


def answer_of(row: Row) -> int:
    """Return the token, or the class, that a row wants."""
    labels: Any = row["labels"]
    return labels if isinstance(labels, int) else next(label for label in labels if label != IGNORED_LABEL)


def with_answer(row: Row, answer: int) -> Row:
    """Return the row with another answer."""
    labels: Any = row["labels"]
    if isinstance(labels, int):
        return row | {"labels": answer}
    place = next(place for place, label in enumerate(labels) if label != IGNORED_LABEL)
    changed = {name: list(row[name]) for name in ("labels", "input_ids")}
    changed["labels"][place] = changed["input_ids"][place] = answer
    return row | changed


def trainer_of(
    job: Job,
    *callbacks: Any,
    kind: Callable[..., Any] = Trainer,
    optimizers: Callable[[Any], tuple[Any, Any]] = lambda _: (None, None),
    declared: dict[str, Any] | None = None,
    **extra: Any,
) -> Any:
    """Set up the trainer of a job, recorded as its recipe says.

    Args:
        job: The run.
        callbacks: Further callbacks, called after the recorder.
        kind: Class of the trainer.
        optimizers: Makes optimizer and scheduler for a model; by default the trainer does.
        declared: What the plain recorder declares in place of the true training configuration.
        extra: Trainer arguments over those of the recipe.
    """
    set_seed(job.cell.order)  # the adapter's first weights
    model = get_peft_model(job.model, _lora(job))
    trainer = kind(
        model=model,
        args=_arguments(job, extra),
        optimizers=optimizers(model),
        train_dataset=job.train,
        eval_dataset=job.val,
        compute_metrics=job.source.score,
        preprocess_logits_for_metrics=keep_best_token,
        callbacks=[_recorder(job, declared or {}), *callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    if job.source.labels:
        # The classifier accepts the number of items and ignores it: the trainer would log the sum over micro-batches.
        trainer.model_accepts_loss_kwargs = False
    return trainer


def _recorder(job: Job, declared: dict[str, Any]) -> Any:
    if job.recipe.recorder == "plain":
        return PlainRecorder(job.out, job.cell.run_id, job.source.dataset_name, declared)
    return GradienceCallback(
        dataset_name=job.source.dataset_name,
        train_eval_samples=job.recipe.train_rows,
        telemetry_interval=job.recipe.interval,
        run_id=job.cell.run_id,
    )


def _lora(job: Job) -> LoraConfig:
    kind, rank = job.source.task_type, job.recipe.rank
    chosen = {"usual": _USUAL[kind], "one": _ONE[kind], "all": list(job.source.targets)}[job.recipe.targets]
    return LoraConfig(
        task_type=kind if job.head else None,
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=job.recipe.dropout,
        target_modules=chosen,
    )


def _arguments(job: Job, extra: dict[str, Any]) -> Any:
    recipe = job.recipe
    settings: dict[str, Any] = {
        "max_steps": recipe.steps,
        "per_device_train_batch_size": recipe.batch,
        "per_device_eval_batch_size": 128,
        "gradient_accumulation_steps": recipe.accumulation,
        "learning_rate": job.learning_rate,
        "lr_scheduler_type": recipe.scheduler,
        "lr_scheduler_kwargs": {"num_cycles": recipe.cycles} if recipe.cycles else {},
        "warmup_steps": recipe.warmup,
        "optim": recipe.optim,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.clip,
        "logging_steps": recipe.logging,
        "logging_nan_inf_filter": recipe.nan_filter,
        "eval_strategy": "steps" if recipe.evaluations else "no",
        "eval_steps": job.eval_steps,
        "save_strategy": "steps" if recipe.save_every else "no",
        "save_steps": recipe.save_every or recipe.steps,
        "save_total_limit": 2,
        "label_names": ["labels"],
        "seed": job.cell.order,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "report_to": "none",
    }
    return TrainingArguments(output_dir=str(job.out), **settings | extra)
