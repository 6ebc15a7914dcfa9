"""The values of the contract as frozen dataclasses.

Each has ``to_dict`` (plain JSON types) and ``from_dict``, and ``from_dict(to_dict(x)) == x`` for every ``x`` whose
``extras`` hold JSON values. ``from_dict`` also reads what other emitters wrote, and never fails:

* a missing key, or null, leaves the field at its default, which means unknown;
* a key that the contract does not know goes to ``extras``;
* so does a known key whose value does not have the type of its slot (``r: "16"``): kept as it was, never guessed at.

A displaced key that ``extras`` already has gets ``_`` appended until it is free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from gradience_schema import slots
from gradience_schema.slots import no_extras, take

__all__ = [
    "ConfigSnapshot",
    "LoraSnapshot",
    "OptimizerSnapshot",
    "Recommendation",
    "RunStatus",
    "Severity",
    "TaskProfile",
    "TrainingSnapshot",
]


class Severity(StrEnum):
    """How grave an alert or a recommendation is, from least to most."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class TaskProfile(StrEnum):
    """What kind of task a run trains; it decides the limits that the run is judged by."""

    EASY_CLASSIFICATION = "easy_classification"
    HARD_REASONING = "hard_reasoning"
    GENERATION = "generation"
    UNKNOWN = "unknown"


class RunStatus(StrEnum):
    """How training ended: ran to its end, stopped early on purpose, or failed."""

    OK = "ok"
    ABORTED = "aborted"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class OptimizerSnapshot:
    """The optimizer of a run. None means unknown.

    Attributes:
        name: Plain name, such as ``"adamw_torch"``.
        lr: Peak learning rate.
        weight_decay: Weight decay coefficient.
        betas: The two decay rates of Adam's moments.
        eps: Epsilon added to the denominator of the update.
        extras: Further values, as JSON.
    """

    name: str | None = None
    lr: float | None = None
    weight_decay: float | None = None
    betas: tuple[float, float] | None = None
    eps: float | None = None
    extras: Mapping[str, Any] = field(default_factory=no_extras, hash=False)

    def __post_init__(self) -> None:
        if self.betas is not None:
            object.__setattr__(self, "betas", tuple(self.betas))

    def to_dict(self) -> dict[str, Any]:
        """The optimizer as ``config.optimizer``; every key is present."""
        return {
            "name": self.name,
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "betas": None if self.betas is None else list(self.betas),
            "eps": self.eps,
            "extras": dict(self.extras),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Self:
        """The optimizer in ``config.optimizer``; None gives the unknown one."""
        return cls(**take(data, _OPTIMIZER))


@dataclass(frozen=True, slots=True)
class LoraSnapshot:
    """The adapter of a run. None means unknown, or no adapter at all.

    Attributes:
        r: Rank.
        alpha: LoRA alpha.
        alpha_over_r: ``alpha / r``, dimensionless.
        target_modules: Module names, or suffixes of them, that carry an adapter. One string is taken as one name.
        dropout: Dropout probability on the adapter's input, 0..1.
        bias: Which biases train: ``"none"``, ``"all"``, ``"lora_only"``.
        extras: Further values, as JSON.
        use_rslora: Scaling is ``alpha / sqrt(r)`` in place of ``alpha / r``.
        use_dora: The adapters are weight-decomposed.
        rank_pattern: Module name or pattern → rank, where it differs from ``r``.
        alpha_pattern: Module name or pattern → alpha, where it differs from ``alpha``.
        peft_type: PEFT's name for the adapter type, such as ``"LORA"``.
        scaling: Factor on ``B @ A`` in the forward pass, before any pattern.
        trainable_params: Trainable parameters (count).
        total_params: All parameters, trainable ones included (count).
    """

    r: int | None = None
    alpha: float | None = None
    alpha_over_r: float | None = None
    target_modules: tuple[str, ...] = ()
    dropout: float | None = None
    bias: str | None = None
    extras: Mapping[str, Any] = field(default_factory=no_extras, hash=False)
    use_rslora: bool | None = None
    use_dora: bool | None = None
    rank_pattern: Mapping[str, int] | None = field(default=None, hash=False)
    alpha_pattern: Mapping[str, float] | None = field(default=None, hash=False)
    peft_type: str | None = None
    scaling: float | None = None
    trainable_params: int | None = None
    total_params: int | None = None

    def __post_init__(self) -> None:
        modules: Any = self.target_modules
        names = (modules,) if isinstance(modules, str) else tuple(modules or ())
        object.__setattr__(self, "target_modules", names)

    def to_dict(self) -> dict[str, Any]:
        """The adapter as ``config.lora``: the keys of the first v1 always, the later ones only when known."""
        written: dict[str, Any] = {
            "r": self.r,
            "alpha": self.alpha,
            "alpha_over_r": self.alpha_over_r,
            "target_modules": list(self.target_modules),
            "dropout": self.dropout,
            "bias": self.bias,
            "extras": dict(self.extras),
        }
        later: dict[str, Any] = {
            "use_rslora": self.use_rslora,
            "use_dora": self.use_dora,
            "rank_pattern": None if self.rank_pattern is None else dict(self.rank_pattern),
            "alpha_pattern": None if self.alpha_pattern is None else dict(self.alpha_pattern),
            "peft_type": self.peft_type,
            "scaling": self.scaling,
            "trainable_params": self.trainable_params,
            "total_params": self.total_params,
        }
        return written | slots.known(later)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Self:
        """The adapter in ``config.lora``; None gives the unknown one."""
        return cls(**take(data, _LORA))


@dataclass(frozen=True, slots=True)
class TrainingSnapshot:
    """Schedule, batch and precision of a run. None means unknown.

    Attributes:
        seed: Random seed.
        batch_size: Examples per device and forward pass.
        gradient_accumulation: Forward passes per optimizer step.
        max_steps: Optimizer steps to take; None when ``epochs`` decides.
        epochs: Passes over the training data.
        dtype: Precision of the computation, such as ``"bfloat16"``.
        extras: Further values, as JSON.
        world_size: Training ranks.
        max_length: Longest sequence, in tokens.
        lr_scheduler: Name of the learning-rate schedule.
        warmup_steps: Warm-up in optimizer steps; below 1 it is that fraction of all steps.
        max_grad_norm: Gradient clipping threshold (L2 norm).
        num_train_examples: Examples in the training split (count).
        logging_nan_inf_filter: The trainer hides non-finite losses in what it logs.
    """

    seed: int | None = None
    batch_size: int | None = None
    gradient_accumulation: int | None = None
    max_steps: int | None = None
    epochs: float | None = None
    dtype: str | None = None
    extras: Mapping[str, Any] = field(default_factory=no_extras, hash=False)
    world_size: int | None = None
    max_length: int | None = None
    lr_scheduler: str | None = None
    warmup_steps: float | None = None
    max_grad_norm: float | None = None
    num_train_examples: int | None = None
    logging_nan_inf_filter: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """The part as ``config.training``: the keys of the first v1 always, the later ones only when known."""
        written: dict[str, Any] = {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "gradient_accumulation": self.gradient_accumulation,
            "max_steps": self.max_steps,
            "epochs": self.epochs,
            "dtype": self.dtype,
            "extras": dict(self.extras),
        }
        later: dict[str, Any] = {
            "world_size": self.world_size,
            "max_length": self.max_length,
            "lr_scheduler": self.lr_scheduler,
            "warmup_steps": self.warmup_steps,
            "max_grad_norm": self.max_grad_norm,
            "num_train_examples": self.num_train_examples,
            "logging_nan_inf_filter": self.logging_nan_inf_filter,
        }
        return written | slots.known(later)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Self:
        """The part in ``config.training``; None gives the unknown one."""
        return cls(**take(data, _TRAINING))


@dataclass(frozen=True, slots=True)
class ConfigSnapshot:
    """What is to be trained, and how: the ``config`` of ``run_start``.

    Attributes:
        model_name: Name or path of the base model, a label only.
        dataset_name: Name of the data set, a label only.
        task_profile: Kind of task; one of its four names is accepted as a plain string.
        optimizer: The optimizer.
        lora: The adapter.
        training: Schedule, batch and precision.
        notes: Free text of the user.
        extras: Further values, as JSON.

    Raises:
        ValueError: when built with a ``task_profile`` that does not exist (`from_dict` keeps it in ``extras``).
    """

    model_name: str | None = None
    dataset_name: str | None = None
    task_profile: TaskProfile = TaskProfile.UNKNOWN
    optimizer: OptimizerSnapshot = OptimizerSnapshot()
    lora: LoraSnapshot = LoraSnapshot()
    training: TrainingSnapshot = TrainingSnapshot()
    notes: str | None = None
    extras: Mapping[str, Any] = field(default_factory=no_extras, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "task_profile", TaskProfile(self.task_profile))

    def to_dict(self) -> dict[str, Any]:
        """The configuration as ``run_start.config``; ``extras`` are copied one level deep."""
        return {
            "model_name": self.model_name,
            "dataset_name": self.dataset_name,
            "task_profile": self.task_profile.value,
            "optimizer": self.optimizer.to_dict(),
            "lora": self.lora.to_dict(),
            "training": self.training.to_dict(),
            "notes": self.notes,
            "extras": dict(self.extras),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Self:
        """The configuration in ``run_start.config``; None gives the unknown one."""
        return cls(**take(data, _CONFIG))


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One piece of advice. None means that its author did not say.

    Attributes:
        severity: How much it matters; one of its names is accepted as a plain string.
        action: What to do, a slug such as ``"lower_rank"``.
        message: The advice in one sentence.
        rationale: Why.
        confidence: How sure the author is, fraction 0..1.
        scope: What it applies to.
        evidence: The measurements it rests on, by name, as JSON.
        extras: Further values, as JSON; written only when there are any.

    Raises:
        ValueError: when built with a ``severity`` that does not exist (`from_dict` keeps it in ``extras``).
    """

    severity: Severity | None = None
    action: str | None = None
    message: str | None = None
    rationale: str | None = None
    confidence: float | None = None
    scope: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=no_extras, hash=False)
    extras: Mapping[str, Any] = field(default_factory=no_extras, hash=False)

    def __post_init__(self) -> None:
        if self.severity is not None:
            object.__setattr__(self, "severity", Severity(self.severity))

    def to_dict(self) -> dict[str, Any]:
        """The advice as an entry of ``recommendation.recommendations``."""
        written: dict[str, Any] = {
            "severity": None if self.severity is None else self.severity.value,
            "action": self.action,
            "message": self.message,
            "rationale": self.rationale,
            "confidence": self.confidence,
            "scope": self.scope,
            "evidence": dict(self.evidence),
        }
        return written | ({"extras": dict(self.extras)} if self.extras else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Self:
        """The advice in an entry of ``recommendations``; None gives one that says nothing."""
        return cls(**take(data, _RECOMMENDATION))


_OPTIMIZER: slots.Slots = {
    "name": slots.text,
    "lr": slots.number,
    "weight_decay": slots.number,
    "betas": slots.pair,
    "eps": slots.number,
}
_LORA: slots.Slots = {
    "r": slots.integer,
    "alpha": slots.number,
    "alpha_over_r": slots.number,
    "target_modules": slots.texts,
    "dropout": slots.number,
    "bias": slots.text,
    "use_rslora": slots.flag,
    "use_dora": slots.flag,
    "rank_pattern": slots.mapping_of(slots.integer),
    "alpha_pattern": slots.mapping_of(slots.number),
    "peft_type": slots.text,
    "scaling": slots.number,
    "trainable_params": slots.integer,
    "total_params": slots.integer,
}
_TRAINING: slots.Slots = {
    "seed": slots.integer,
    "batch_size": slots.integer,
    "gradient_accumulation": slots.integer,
    "max_steps": slots.integer,
    "epochs": slots.number,
    "dtype": slots.text,
    "world_size": slots.integer,
    "max_length": slots.integer,
    "lr_scheduler": slots.text,
    "warmup_steps": slots.number,
    "max_grad_norm": slots.number,
    "num_train_examples": slots.integer,
    "logging_nan_inf_filter": slots.flag,
}
_CONFIG: slots.Slots = {
    "model_name": slots.text,
    "dataset_name": slots.text,
    "task_profile": slots.member_of(TaskProfile),
    "optimizer": slots.part(OptimizerSnapshot.from_dict),
    "lora": slots.part(LoraSnapshot.from_dict),
    "training": slots.part(TrainingSnapshot.from_dict),
    "notes": slots.text,
}
_RECOMMENDATION: slots.Slots = {
    "severity": slots.member_of(Severity),
    "action": slots.text,
    "message": slots.text,
    "rationale": slots.text,
    "confidence": slots.number,
    "scope": slots.text,
    "evidence": slots.mapping,
}
