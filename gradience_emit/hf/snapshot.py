"""What is about to be trained, read from trainer arguments, model and optimizer: the config of ``run_start``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from gradience_emit.boundary import attempt
from gradience_emit.hf.config import GradienceCallbackConfig
from gradience_emit.lora import snapshot_lora
from gradience_emit.model import model_extras, model_name, unwrapped
from gradience_schema import ConfigSnapshot, LoraSnapshot, OptimizerSnapshot, TaskProfile, TrainingSnapshot

__all__ = ["RunSources", "schedule", "snapshot_config"]

_T = TypeVar("_T")

_TORCH_CLASSES: Final[Mapping[str, str]] = {
    "adamw_torch": "AdamW",
    "adamw_torch_fused": "AdamW",
    "adafactor": "Adafactor",
    "sgd": "SGD",
    "adagrad": "Adagrad",
    "rmsprop": "RMSprop",
}
"""The class that the trainer makes for a name, where a different one shows that the user made the optimizer."""
_FILE_READERS: Final = frozenset(
    {"json", "csv", "parquet", "text", "arrow", "generator", "pandas", "sql", "xml", "webdataset", "spark"}
    | {"imagefolder", "audiofolder", "videofolder"}
)
"""Names that `datasets` gives to the way data was read, which are not names of a data set."""


@dataclass(frozen=True, slots=True)
class RunSources:
    """Where a snapshot is read from.

    Attributes:
        options: the callback's own options.
        args: the training arguments.
        state: the trainer's state.
        model: the model; None when unknown.
        trainer: the trainer; None when it was not found.
        optimizer: the optimizer in use; None before training.
        train_dataset: the training examples; None when unknown.
        own_optimizer: whether the user made the optimizer; None when unknown.
        own_scheduler: whether the user made the scheduler; None when unknown.
    """

    options: GradienceCallbackConfig
    args: Any
    state: Any
    model: Any = None
    trainer: Any = None
    optimizer: Any = None
    train_dataset: Any = None
    own_optimizer: bool | None = None
    own_scheduler: bool | None = None


def snapshot_config(sources: RunSources, on_fault: Callable[[Exception], None]) -> ConfigSnapshot:
    """The whole configuration. A part that cannot be read is left unknown and ``on_fault`` is told why."""

    def part(read: Callable[[], _T], unknown: _T) -> _T:
        def give_up(fault: Exception) -> _T:
            on_fault(fault)
            return unknown

        return attempt(read, give_up)

    model, options = sources.model, sources.options
    return ConfigSnapshot(
        model_name=part(lambda: model_name(model), None),
        dataset_name=options.dataset_name or part(lambda: _dataset_name(sources.train_dataset), None),
        task_profile=TaskProfile(options.task_profile or TaskProfile.UNKNOWN),
        optimizer=part(lambda: _optimizer(sources), OptimizerSnapshot()),
        lora=part(lambda: snapshot_lora(model), LoraSnapshot()),
        training=part(lambda: _training(sources), TrainingSnapshot()),
        notes=options.notes,
        extras=part(lambda: model_extras(model), {}),
    )


def schedule(args: Any, state: Any) -> dict[str, Any]:
    """``max_steps``, ``epochs`` and ``warmup_steps``, as far as they are settled.

    ``max_steps`` is the number that the trainer resolved, or the one asked for before training; None until known.
    ``epochs`` is None when a number of steps decides. ``warmup_steps`` below 1 is a fraction of a total not yet known.
    """
    asked: int = args.max_steps
    max_steps = (state.max_steps or asked) if max(state.max_steps, asked) > 0 else None
    return {
        "max_steps": max_steps,
        "epochs": None if asked > 0 else float(args.num_train_epochs),
        "warmup_steps": args.warmup_steps if max_steps is None else args.get_warmup_steps(max_steps),
    }


def _dataset_name(dataset: Any) -> str | None:
    info = getattr(dataset, "info", None)
    for attribute in ("dataset_name", "builder_name"):
        name = getattr(info, attribute, None)
        if isinstance(name, str) and name and name not in _FILE_READERS:
            return name
    return None


def _plain(value: Any) -> Any:
    """An enum's value; anything else as it is."""
    return getattr(value, "value", value)


def _optimizer(sources: RunSources) -> OptimizerSnapshot:
    args, inner = sources.args, _innermost(sources.optimizer)
    named: str | None = _plain(args.optim)
    own = sources.own_optimizer
    if own is None and inner is not None:
        own = _TORCH_CLASSES.get(named or "", type(inner).__name__) != type(inner).__name__
    groups: list[dict[str, Any]] = [] if inner is None else list(inner.param_groups)
    adam = not own and "adam" in (named or "")
    betas = groups[0].get("betas") if groups else ((args.adam_beta1, args.adam_beta2) if adam else None)
    eps = groups[0].get("eps") if groups else (args.adam_epsilon if adam else None)
    lr = args.learning_rate if not own else groups[0].get("initial_lr", groups[0]["lr"]) if groups else None
    decay = args.weight_decay if not own else max((g.get("weight_decay", 0.0) for g in groups), default=None)
    return OptimizerSnapshot(
        name=named if not own else None if inner is None else type(inner).__name__,
        lr=lr,
        weight_decay=decay,
        betas=_pair(betas),
        eps=eps if isinstance(eps, float) else None,
        extras=_optimizer_extras(args, groups, own=bool(own)),
    )


def _innermost(optimizer: Any) -> Any:
    """The optimizer inside accelerate's wrapper."""
    while hasattr(optimizer, "optimizer") and hasattr(optimizer, "step"):
        optimizer = optimizer.optimizer
    return optimizer


def _pair(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, (tuple, list)):
        return None
    numbers = cast("list[Any]", value)
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def _optimizer_extras(args: Any, groups: list[dict[str, Any]], *, own: bool) -> dict[str, Any]:
    """Arguments of the optimizer beside the known ones, and the peak rates where its parameter groups differ."""
    extras: dict[str, Any] = {}
    if args.optim_args and not own:
        extras["optim_args"] = args.optim_args
    rates = [group.get("initial_lr", group["lr"]) for group in groups]
    if len(set(map(str, rates))) > 1:
        extras["group_lrs"] = rates
    return extras


def _training(sources: RunSources) -> TrainingSnapshot:
    args, state = sources.args, sources.state
    return TrainingSnapshot(
        seed=args.seed,
        batch_size=args.per_device_train_batch_size,
        gradient_accumulation=args.gradient_accumulation_steps,
        **schedule(args, state),
        dtype=_dtype(args, sources.model),
        extras=_training_extras(args, state),
        world_size=args.world_size,
        max_length=getattr(args, "max_length", None) or getattr(args, "max_seq_length", None),
        lr_scheduler=_scheduler_name(sources),
        max_grad_norm=args.max_grad_norm,
        num_train_examples=_length(sources.train_dataset),
        logging_nan_inf_filter=args.logging_nan_inf_filter,
    )


def _scheduler_name(sources: RunSources) -> str | None:
    if sources.own_scheduler:
        scheduler = getattr(sources.trainer, "lr_scheduler", None)
        inner = getattr(scheduler, "scheduler", scheduler)  # inside accelerate's wrapper
        return None if inner is None else type(inner).__name__
    name: str | None = _plain(sources.args.lr_scheduler_type)
    return name


def _training_extras(args: Any, state: Any) -> dict[str, Any]:
    """Switches that change what is trained, each only where it is on."""
    names = (
        "data_seed",
        "lr_scheduler_kwargs",
        "label_smoothing_factor",
        "gradient_checkpointing",
        "neftune_noise_alpha",
        "packing",
        "loss_type",
    )
    extras = {name: value for name in names if (value := _plain(getattr(args, name, None)))}
    effective = getattr(state, "train_batch_size", None)
    if args.auto_find_batch_size and effective is not None:
        extras["effective_batch_size"] = effective
    return extras


def _dtype(args: Any, model: Any) -> str | None:
    """What the forward pass computes in: the autocast type when there is one, else that of the weights."""
    if args.bf16:
        return "bfloat16"
    if args.fp16:
        return "float16"
    dtype = getattr(unwrapped(model), "dtype", None)
    return None if dtype is None else str(dtype).removeprefix("torch.")


def _length(dataset: Any) -> int | None:
    return None if dataset is None else attempt(lambda: len(dataset), lambda _: None)
