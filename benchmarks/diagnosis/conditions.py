"""Every planted condition: what is wrong in it, if anything, and which findings would say so.

The expected codes stand in groups below, so that a code that is renamed is renamed once. A condition whose group is
empty is healthy: any finding of warning or above is a false alarm there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.diagnosis.cells import Cell, cells_of
from benchmarks.diagnosis.recipes import Recipe

_HEALTHY: frozenset[str] = frozenset()
_DIVERGING = frozenset({"divergence", "no_learning", "grad_norm_exploding", "loss_spike"})
_EXPLODING = frozenset({"divergence", "grad_norm_exploding", "loss_spike", "nonfinite_loss"})
_MEMORISING = frozenset({"memorization", "generalization_gap"})


@dataclass(frozen=True, slots=True)
class Condition:
    """One planted condition.

    Attributes:
        name: Folder of its runs.
        planted: What is planted, in a sentence.
        expected: Codes of findings of which at least one is expected; empty when the run is healthy.
        recipe: How its runs are trained.
        turns: What differs in the recipe from turn to turn; the last one holds for the turns after it.
    """

    name: str
    planted: str
    expected: frozenset[str]
    recipe: Recipe
    turns: tuple[Mapping[str, Any], ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong in it."""
        return not self.expected

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Its runs."""
        return cells_of(self.name, _PLACES[self.name])

    def recipe_of(self, cell: Cell) -> Recipe:
        """The recipe of one of its runs."""
        if not self.turns:
            return self.recipe
        return replace(self.recipe, **self.turns[min(cell.turn, len(self.turns) - 1)])


HEALTHY: tuple[Condition, ...] = (
    Condition(
        "healthy_constant",
        "constant learning rate",
        _HEALTHY,
        Recipe(scheduler="constant", warmup=0, lr_factor=0.6, logging=1),
    ),
    Condition("healthy_cosine", "cosine schedule with a short warm-up", _HEALTHY, Recipe()),
    Condition(
        "healthy_linear",
        "linear schedule without warm-up",
        _HEALTHY,
        Recipe(scheduler="linear", warmup=0, logging=5, steps=150, interval=50),
        ({}, {"train_rows": 0}),
    ),
    Condition(
        "healthy_warmup",
        "warm-up over a third of the run",
        _HEALTHY,
        Recipe(scheduler="constant_with_warmup", warmup=40, lr_factor=0.8),
        ({}, {"scheduler": "cosine"}, {"scheduler": "polynomial"}, {"scheduler": "linear"}),
    ),
    Condition(
        "healthy_clipped",
        "clipping that holds at most steps",
        _HEALTHY,
        Recipe(clip=0.3),
        ({}, {"clip": 0.1}, {"clip": 0.5}, {"clip": 0.3, "logging": 1}),
    ),
    Condition(
        "healthy_noisy",
        "four rows a batch, each step logged",
        _HEALTHY,
        Recipe(batch=4, steps=200, lr_factor=0.5, logging=1, train_rows=64),
        ({}, {"scheduler": "constant", "lr_factor": 0.3}),
    ),
    Condition(
        "healthy_resumed",
        "stopped or killed, and resumed from a complete checkpoint",
        _HEALTHY,
        Recipe(plan="resumed", save_every=20, at=66),
        ({}, {"variant": "killed"}, {"scheduler": "constant"}, {"variant": "killed", "logging": 5}),
    ),
    Condition(
        "healthy_plateau_drop",
        "a long plateau, then a drop: a schedule of one's own, near zero for 45 % of the run",
        _HEALTHY,
        Recipe(plan="slow_start", scheduler="constant", warmup=0, steps=200, logging=4, evaluations=10),
        ({}, {"lr_factor": 0.7}),
    ),
    Condition(
        "healthy_converged",
        "trained to convergence on clean data",
        _HEALTHY,
        Recipe(steps=420, lr_factor=0.4, clean=True, dropout=0.1, weight_decay=0.1, logging=4, evaluations=8),
    ),
    Condition(
        "healthy_eval_often",
        "an evaluation every four steps, each step logged",
        _HEALTHY,
        Recipe(evaluations=30, logging=1, lr_factor=0.6),
    ),
    Condition(
        "healthy_eval_rarely",
        "one or two evaluations, without the training split, half of them recorded by a loop of one's own",
        _HEALTHY,
        Recipe(evaluations=2, train_rows=0, logging=5),
        ({}, {"recorder": "plain"}, {"evaluations": 1}, {"recorder": "plain", "evaluations": 1}),
    ),
    Condition(
        "healthy_early_stopped",
        "stopped by a rule with a patience of two evaluations",
        _HEALTHY,
        Recipe(plan="early_stopping", steps=240, scheduler="linear", evaluations=24, save_every=10),
    ),
    Condition(
        "healthy_accumulation",
        "four micro-batches a step",
        _HEALTHY,
        Recipe(batch=4, accumulation=4),
        ({}, {"batch": 8, "accumulation": 2}),
    ),
    Condition(
        "healthy_restarts",
        "cosine schedule with a restart",
        _HEALTHY,
        Recipe(scheduler="cosine_with_restarts", cycles=2, steps=160),
    ),
    Condition(
        "healthy_audited",
        "a rank of 4 or 8, audited at the end",
        _HEALTHY,
        Recipe(rank=4, audit=True, lr_factor=1.4),
        ({}, {"rank": 8, "lr_factor": 1.0}, {"targets": "all", "lr_factor": 0.7}),
    ),
    Condition(
        "healthy_uneven_steps",
        "steps of a third of a second that vary as batches of uneven length do, and two that wait for seconds",
        _HEALTHY,
        Recipe(plan="uneven", steps=180, logging=3),
        ({}, {"recorder": "plain"}),
    ),
)

FAULTY: tuple[Condition, ...] = (
    Condition(
        "lr_too_high",
        "a learning rate of 20 to 100 times the good one",
        _DIVERGING,
        Recipe(plan="knowing", lr_factor=60.0),
        ({}, {"lr_factor": 20.0}, {"scheduler": "constant", "lr_factor": 30.0}, {"lr_factor": 100.0}),
    ),
    Condition(
        "lr_too_low",
        "a learning rate of a few thousandths of the good one",
        frozenset({"no_learning"}),
        Recipe(lr_factor=0.002),
        ({}, {"lr_factor": 0.0005}, {"scheduler": "constant"}, {"lr_factor": 0.005, "logging": 5}),
    ),
    Condition(
        "label_noise",
        "32 training rows, half of them with a random answer, read again and again",
        _MEMORISING,
        Recipe(rows=32, noise=0.5, steps=160, evaluations=10),
        ({}, {"train_rows": 0}),
    ),
    Condition(
        "small_data",
        "24 training rows read again and again",
        _MEMORISING,
        Recipe(rows=24, steps=160, evaluations=10),
        ({}, {"train_rows": 0, "scheduler": "constant"}),
    ),
    Condition(
        "frozen_adapter",
        "nothing learns: the adapter is scaled to zero, or the optimizer holds other tensors than the model",
        frozenset({"grad_norm_zero", "no_learning"}),
        Recipe(plan="frozen"),
        (
            {"variant": "scaled_to_zero"},
            {"variant": "stale_optimizer"},
            {"variant": "scaled_to_zero", "logging": 5},
            {"variant": "stale_optimizer"},
        ),
    ),
    Condition(
        "labels_all_ignored",
        "a masking fault leaves no row a label",
        frozenset({"labels_all_ignored"}),
        Recipe(plan="ignored_labels"),
        ({}, {"nan_filter": False}, {"variant": "zero_loss"}, {"recorder": "plain", "logging": 5}),
    ),
    Condition(
        "split_overlap",
        "the held-out rows are the training rows",
        frozenset({"split_overlap_suspected"}),
        Recipe(plan="overlap", rows=48, noise=0.3, steps=160, evaluations=10),
        ({}, {"rows": 96, "noise": None}, {"rows": 0, "noise": None}, {"train_rows": 0}),
    ),
    Condition(
        "nan_batch_filtered",
        "one batch gives NaN, and the trainer's log hides it",
        frozenset({"nonfinite_loss", "hidden_nonfinite"}),
        Recipe(plan="nan_batch", at=70),
        ({}, {"recorder": "plain"}, {"at": 25}, {"recorder": "plain", "logging": 5}),
    ),
    Condition(
        "nan_batch_unfiltered",
        "one batch gives NaN, and the trainer logs it",
        frozenset({"nonfinite_loss"}),
        Recipe(plan="nan_batch", at=70, nan_filter=False),
        ({}, {"recorder": "plain"}, {"at": 25}, {"recorder": "plain", "logging": 5}),
    ),
    Condition(
        "spike",
        "one to three batches of wrong answers or garbled inputs, after the loss has fallen",
        frozenset({"loss_spike", "grad_norm_exploding"}),
        Recipe(plan="bad_batches", at=90, logging=1),
        ({}, {"variant": "garbled"}, {"at": 70, "logging": 2}, {"variant": "garbled", "logging": 2}),
    ),
    Condition(
        "explosion_unclipped",
        "no clipping and steps that grow: momentum, or a rate far too high for an adaptive optimizer",
        _EXPLODING,
        Recipe(plan="knowing", clip=0.0, optim="sgd", lr_factor=2000.0, scheduler="constant_with_warmup", warmup=80),
        ({}, {"nan_filter": False}, {"optim": "adamw_torch_fused", "lr_factor": 100.0}),
    ),
    Condition(
        "rank_too_large",
        "a rank of 64 where one of 4 does as well, audited",
        frozenset({"oversized_rank", "low_utilization"}),
        Recipe(rank=64, audit=True, lr_factor=0.5),
        ({}, {"rank": 48}),
    ),
    Condition(
        "rank_too_small",
        "rank 1 on one module, audited",
        frozenset({"rank_saturated", "no_learning"}),
        Recipe(rank=1, targets="one", audit=True),
    ),
    Condition(
        "lr_off_schedule",
        "the schedule in force is not the one declared: constant, over after half of the run, or stepped once an epoch",
        frozenset({"lr_off_schedule"}),
        Recipe(plan="other_schedule"),
        (
            {"variant": "constant"},
            {"variant": "half"},
            {"variant": "per_epoch", "scheduler": "linear"},
            {"variant": "half", "scheduler": "linear"},
        ),
    ),
    Condition(
        "resumed_weights_only",
        "resumed without the states of optimizer, scheduler and random numbers",
        frozenset({"resume_discontinuity"}),
        Recipe(plan="resumed", variant="weights_only", save_every=20, at=66),
        ({}, {"scheduler": "linear"}, {"scheduler": "constant", "warmup": 0}, {"logging": 5}),
    ),
    Condition(
        "resumed_offset_lost",
        "resumed with another step number than that of the weights",
        frozenset({"resume_discontinuity"}),
        Recipe(plan="resumed", variant="from_zero", save_every=20, at=66),
        ({}, {"variant": "ahead"}, {"variant": "from_zero", "scheduler": "linear"}, {"variant": "ahead", "logging": 5}),
    ),
    Condition(
        "killed",
        "killed by a signal, half of them with a torn last line",
        frozenset({"run_silent", "run_crashed", "no_run_end"}),
        Recipe(plan="killed", at=70),
        ({}, {"variant": "torn"}, {"at": 40, "recorder": "plain"}, {"variant": "torn", "logging": 5}),
    ),
    Condition(
        "out_of_memory",
        "a step that finds no memory",
        frozenset({"out_of_memory"}),
        Recipe(plan="out_of_memory", at=50),
        ({}, {"variant": "host"}),
    ),
    Condition(
        "total_steps_inconsistent",
        "a loop of one's own declares the steps of another batch size",
        frozenset({"total_steps_inconsistent"}),
        Recipe(plan="wrong_total", recorder="plain"),
        ({"accumulation": 4, "batch": 4}, {"accumulation": 2, "batch": 8, "scheduler": "linear"}),
    ),
    Condition(
        "step_time_growing",
        "each step takes longer than the one before, or all from the middle on, and a minute or more is lost",
        frozenset({"step_time_growing"}),
        Recipe(plan="slowing", steps=160),
        ({}, {"interval": 5}, {"variant": "late"}),
    ),
    Condition(
        "memory_growing",
        "every step keeps tensors",
        frozenset({"memory_growing"}),
        Recipe(plan="leaking", steps=420, batch=8, logging=5, train_rows=0, evaluations=4),
        ({}, {"recorder": "plain"}),
    ),
    Condition(
        "split_overlap_partial",
        "the held-out rows are a third of the training rows",
        frozenset({"split_overlap_suspected"}),
        Recipe(plan="overlap", variant="third"),
        ({}, {"train_rows": 0}),
    ),
)

CONDITIONS: tuple[Condition, ...] = HEALTHY + FAULTY
_PLACES: dict[str, int] = {
    condition.name: place
    for first, group in ((0, HEALTHY), (3, FAULTY))
    for place, condition in enumerate(group, first)
}
"""Where the tasks and sizes of a condition begin. A condition added at the end of its list moves no other one's."""
CELLS: tuple[Cell, ...] = tuple(cell for condition in CONDITIONS for cell in condition.cells)


def condition_of(cell: Cell) -> Condition:
    """The condition of a run.

    Raises:
        KeyError: There is no such condition.
    """
    return _BY_NAME[cell.condition]


_BY_NAME: dict[str, Condition] = {condition.name: condition for condition in CONDITIONS}
