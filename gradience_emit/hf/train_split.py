"""Evaluates a fixed part of the training data the way the trainer evaluates the rest, for a real generalization gap."""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections import defaultdict
from collections.abc import Generator, Mapping
from typing import Any, Final

import torch

from gradience_emit.hf.rows import strip_prefix

__all__ = ["TrainSplit", "why_not_measured"]

_PREFIX: Final = "train"


def why_not_measured(trainer: Any) -> str | None:
    """Why the training data of ``trainer`` cannot be evaluated; None when it can."""
    if trainer is None:
        return "the trainer was not found"
    dataset = getattr(trainer, "train_dataset", None)
    if dataset is None:
        return "the trainer has no train_dataset"
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        return f"a {type(dataset).__name__} cannot be indexed"
    return None


class TrainSplit:
    """A seeded subset of the training data, the same at every evaluation.

    It goes through the trainer's own data loader, collator and evaluation loop, so that its loss is the same quantity
    as the evaluation loss (no dropout, the same reduction). Everything else is put back as it was: random numbers, the
    data loaders the trainer keeps, the metrics TRL collects, and no prediction step is announced to other callbacks.

    Args:
        samples: examples to evaluate; all of them when the data has fewer.
        seed: decides which.
    """

    def __init__(self, samples: int, seed: int) -> None:
        self._samples = samples
        self._seed = seed
        self._loaders: dict[str, Any] = {}

    def evaluate(self, trainer: Any) -> dict[str, Any]:
        """The metrics of the subset: ``loss``, ``n``, ``runtime`` in seconds, and what the trainer's metrics add.

        To be called on every rank. Raises whatever the trainer's evaluation raises.
        """
        with _rng_kept(trainer.args.device), _trainer_kept(trainer, self._loaders) as collected:
            started = time.perf_counter()
            subset = self._choose(trainer.train_dataset)
            output = trainer.evaluation_loop(
                trainer.get_eval_dataloader(subset),
                description="Train-split evaluation",
                prediction_loss_only=True if trainer.compute_metrics is None else None,
                metric_key_prefix=_PREFIX,
            )
            runtime = round(time.perf_counter() - started, 4)
        metrics = strip_prefix(output.metrics, _PREFIX)
        metrics.pop("model_preparation_time", None)
        return {**_averages(collected), **metrics, "n": len(subset), "runtime": runtime}

    def _choose(self, dataset: Any) -> Any:
        size = len(dataset)
        chosen = sorted(random.Random(self._seed).sample(range(size), min(self._samples, size)))  # noqa: S311 - a sample
        if hasattr(dataset, "select"):  # `datasets`: the trainer removes unused columns only from its own type
            return dataset.select(chosen)
        return torch.utils.data.Subset(dataset, chosen)


@contextlib.contextmanager
def _rng_kept(device: torch.device) -> Generator[None]:
    """Leave the random generators of Python, numpy, torch and the device as they were."""
    numpy: Any = sys.modules.get("numpy")
    backend: Any = getattr(torch, device.type, None)
    on_device = hasattr(backend, "get_rng_state")
    python, host = random.getstate(), torch.get_rng_state()
    array = numpy.random.get_state() if numpy is not None else None
    card = backend.get_rng_state() if on_device else None
    try:
        yield
    finally:
        random.setstate(python)
        torch.set_rng_state(host)
        if numpy is not None:
            numpy.random.set_state(array)
        if on_device:
            backend.set_rng_state(card)


@contextlib.contextmanager
def _trainer_kept(trainer: Any, loaders: dict[str, Any]) -> Generator[Mapping[str, Any]]:
    """Leave the trainer as it was; yields where a TRL trainer collects its metrics meanwhile (else an empty mapping).

    ``loaders`` stands in for the evaluation loaders that a trainer with persistent workers keeps: it would hand out the
    one of the evaluation data.
    """
    handler = trainer.callback_handler
    attributes: dict[str, Any] = trainer.__dict__
    collected: dict[str, Any] = {}
    replaced: dict[str, Any] = {"_eval_dataloaders": loaders}
    if isinstance(attributes.get("_metrics"), dict):
        modes: dict[str, Any] = attributes["_metrics"]
        collected = {mode: defaultdict(list) for mode in modes}
        replaced["_metrics"] = collected
    with (
        _replaced(attributes, replaced),
        _replaced(handler.__dict__, {"on_prediction_step": _stay_silent, "eval_dataloader": handler.eval_dataloader}),
    ):
        yield collected


@contextlib.contextmanager
def _replaced(attributes: dict[str, Any], values: Mapping[str, Any]) -> Generator[None]:
    """Set attributes of an object, and afterwards put back, or remove, what was there before."""
    missing = object()
    before = {name: attributes.get(name, missing) for name in values}
    attributes.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is missing:
                attributes.pop(name, None)
            else:
                attributes[name] = value


def _stay_silent(_args: Any, _state: Any, control: Any, **_kwargs: Any) -> Any:
    return control


def _averages(collected: Mapping[str, Any]) -> dict[str, float]:
    """The means of what a TRL trainer collected during the evaluation (it logs them so itself)."""
    means: dict[str, float] = {}
    for name, values in collected.get("eval", {}).items():
        numbers = [value for value in values if isinstance(value, (int, float))]
        if numbers:
            means[name] = sum(numbers) / len(numbers)
    return means
