"""What can differ between two runs of the benchmark: the recipe of a training, in plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one run is trained and recorded.

    Attributes:
        plan: How training goes; a name of `benchmarks.diagnosis.plans.PLANS`.
        steps: Optimizer steps.
        lr_factor: Learning rate as a multiple of the one that suits task and size.
        scheduler: Learning-rate schedule, in the trainer's words.
        warmup: Warm-up steps.
        cycles: Restarts of `cosine_with_restarts`.
        optim: Optimizer, in the trainer's words.
        weight_decay: Of the optimizer.
        clip: `max_grad_norm`; 0 clips nothing.
        batch: Rows of a micro-batch.
        accumulation: Micro-batches of an optimizer step.
        rank: Rank of the adapter.
        targets: `usual` layers for the kind of model, `all` linear ones, or `one` module of the whole model.
        dropout: Of the adapter.
        rows: Training rows to keep; 0 keeps all.
        noise: Share 0..1 of training rows with an answer drawn at random; None leaves the task's own.
        clean: Whether the data is made without any answer that cannot be known.
        logging: Steps between two logs.
        evaluations: Evaluations spread over the run; 0 for none.
        train_rows: Training rows evaluated each time; 0 for none.
        interval: Steps between throughput and memory records.
        nan_filter: `logging_nan_inf_filter`.
        recorder: `callback` is ours for the Trainer; `plain` is what a training loop of one's own writes.
        save_every: Steps between checkpoints; 0 for none.
        at: Step at which the plan does what it does; 0 where there is no such step.
        variant: A choice that the plan offers; empty for the first.
        audit: Whether the adapter is audited at the end, and the audit recorded.
    """

    plan: str = "plain"
    steps: int = 120
    lr_factor: float = 1.0
    scheduler: str = "cosine"
    warmup: int = 6
    cycles: int = 0
    optim: str = "adamw_torch_fused"
    weight_decay: float = 0.0
    clip: float = 1.0
    batch: int = 16
    accumulation: int = 1
    rank: int = 8
    targets: str = "usual"
    dropout: float = 0.0
    rows: int = 0
    noise: float | None = None
    clean: bool = False
    logging: int = 2
    evaluations: int = 6
    train_rows: int = 96
    interval: int = 10
    nan_filter: bool = True
    recorder: str = "callback"
    save_every: int = 0
    at: int = 0
    variant: str = ""
    audit: bool = False
