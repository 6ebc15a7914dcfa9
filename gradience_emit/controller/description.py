"""What is about to be trained, as ``run_start`` says it: the configuration of a loop of one's own."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from gradience_emit.boundary import attempt
from gradience_emit.controller.options import ControllerOptions
from gradience_emit.lora import snapshot_lora
from gradience_emit.model import model_extras, model_name
from gradience_schema import ConfigSnapshot, LoraSnapshot, OptimizerSnapshot, TaskProfile, TrainingSnapshot

__all__ = ["describe_run", "surroundings"]

_LIBRARIES: Final = ("torch", "accelerate", "peft", "transformers")
_T = TypeVar("_T")


def describe_run(
    options: ControllerOptions,
    model: Any,
    optimizer: Any = None,
    scheduler: Any = None,
    *,
    lr: float | None = None,
    on_fault: Callable[[Exception], None],
) -> ConfigSnapshot:
    """The configuration, as far as it can be seen from outside the loop. None means unknown.

    Args:
        options: the controller's options.
        model: the model.
        optimizer: the optimizer; None when unknown.
        scheduler: the learning-rate schedule; None when unknown, or when there is none.
        lr: the learning rate when there is no optimizer to read it from.
        on_fault: told about a part that cannot be read, which is left unknown.
    """

    def part(read: Callable[[], _T], unknown: _T) -> _T:
        def give_up(fault: Exception) -> _T:
            on_fault(fault)
            return unknown

        return attempt(read, give_up)

    return ConfigSnapshot(
        model_name=part(lambda: model_name(model), None),
        dataset_name=options.dataset_name,
        task_profile=TaskProfile(options.task_profile or TaskProfile.UNKNOWN),
        optimizer=part(lambda: _optimizer(optimizer, lr), OptimizerSnapshot(lr=lr)),
        lora=part(lambda: snapshot_lora(model), LoraSnapshot()),
        training=part(lambda: _training(model, scheduler), TrainingSnapshot()),
        notes=options.notes,
        extras=part(lambda: model_extras(model), {}),
    )


def surroundings(options: ControllerOptions) -> dict[str, Any]:
    """Versions of what is in use, and where a run goes on that began earlier."""
    found: dict[str, Any] = {
        "framework": "pytorch",
        "gradience_version": _version("gradience"),
        "python": platform.python_version(),
        **{name: _version(name) for name in _LIBRARIES if name in sys.modules},
        "resume_step": options.initial_step or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _optimizer(optimizer: Any, lr: float | None) -> OptimizerSnapshot:
    if optimizer is None:
        return OptimizerSnapshot(lr=lr)
    groups: list[dict[str, Any]] = list(optimizer.param_groups)
    rates = [float(group.get("initial_lr", group["lr"])) for group in groups]
    eps = groups[0].get("eps")
    return OptimizerSnapshot(
        name=type(optimizer).__name__,
        lr=rates[0],
        weight_decay=max((group["weight_decay"] for group in groups if "weight_decay" in group), default=None),
        betas=_pair(groups[0].get("betas")),
        eps=eps if isinstance(eps, float) else None,
        extras={"group_lrs": rates} if len(set(rates)) > 1 else {},
    )


def _pair(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, (tuple, list)):
        return None
    numbers = cast("list[Any]", value)
    return (float(numbers[0]), float(numbers[1])) if len(numbers) == 2 else None


def _training(model: Any, scheduler: Any) -> TrainingSnapshot:
    import torch

    distributed: Any = torch.distributed
    together = distributed.is_available() and distributed.is_initialized()
    trained = {str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.requires_grad}
    inner = getattr(scheduler, "scheduler", scheduler)  # inside accelerate's wrapper
    return TrainingSnapshot(
        lr_scheduler=None if inner is None else type(inner).__name__,
        world_size=distributed.get_world_size() if together else 1,
        extras={"trainable_dtypes": sorted(trained)},
    )


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None
