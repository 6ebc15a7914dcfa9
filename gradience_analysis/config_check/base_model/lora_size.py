"""How many parameters an adapter trains, computed from the shapes of the modules that it is put on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple, cast

from gradience_analysis.config_check.base_model.facts import ModelFacts
from gradience_analysis.config_check.base_model.modules import (
    Targeting,
    lora_setting,
    matched,
    modules,
    rank_of,
    targeting,
)
from gradience_analysis.config_check.subject import Preflight


class LoraSize(NamedTuple):
    """The size of an adapter.

    Attributes:
        modules: Modules that carry it.
        trainable: Parameters that train: r · (inputs + outputs) for each module, with what else is trained whole.
        total: Parameters of the model, the adapter included.
    """

    modules: int
    trainable: int
    total: int

    @property
    def share(self) -> float:
        """Trainable of total, 0..1."""
        return self.trainable / self.total


def lora_size(subject: Preflight) -> LoraSize | str:
    """The size of the adapter, or why it cannot be told."""
    model, wanted, rank = subject.base_model, targeting(subject), subject.config.lora.r
    reason = _why_not(model, wanted, rank, subject)
    if reason or model is None or rank is None:
        return reason
    try:
        return _size(model, wanted, rank, subject)
    except re.error as error:
        return f"A pattern of the configuration is no regular expression: {error}."


def _why_not(model: ModelFacts | None, wanted: Targeting, rank: int | None, subject: Preflight) -> str:
    """Why the adapter cannot be counted; empty when it can."""
    if model is None:
        return "No base model was given: give its folder with --model."
    if model.fault or not model.shapes:
        return model.fault or model.weights_fault
    if model.quantized:
        return "The weights are quantized, so that their shapes are not those of the modules."
    if lora_setting(subject, "target_parameters"):
        return "target_parameters are adapted, and those are not counted."
    if wanted.targets is None:
        return "No target_modules are set; PEFT then has a choice of its own for each type of model."
    return "" if rank is not None and rank > 0 else "No valid rank is set."


def _size(model: ModelFacts, wanted: Targeting, rank: int, subject: Preflight) -> LoraSize:
    shapes = modules(model)
    names = matched(model, wanted)
    patterns = _patterns(lora_setting(subject, "rank_pattern"), subject.config.lora.rank_pattern)
    trained = sum(_adapter(shapes[name], rank_of(name, rank, patterns)) for name in names)
    if lora_setting(subject, "use_dora") is True or subject.config.lora.use_dora:
        trained += sum(shapes[name][0] for name in names)  # one magnitude for each output
    copies = _whole(model, wanted.saved)  # PEFT keeps the original beside the copy that trains
    base = sum(prod(shape) for shape in model.shapes.values())
    biases = _biases(model, frozenset(names), subject.config.lora.bias)
    return LoraSize(len(names), trained + copies + biases, base + trained + copies)


def _adapter(shape: tuple[int, ...], rank: int) -> int:
    """Both factors: r x inputs and outputs x r; for a convolution the kernel belongs to the first."""
    return rank * (prod(shape[1:]) + shape[0])


def _whole(model: ModelFacts, saved: tuple[str, ...]) -> int:
    return sum(prod(shape) for name, shape in model.shapes.items() if any(f".{part}." in f".{name}" for part in saved))


def _biases(model: ModelFacts, names: frozenset[str], bias: str | None) -> int:
    if bias not in {"all", "lora_only"}:
        return 0
    return sum(
        prod(shape)
        for name, shape in model.shapes.items()
        if name.endswith(".bias") and (bias == "all" or name.removesuffix(".bias") in names)
    )


def _patterns(value: object, recorded: Mapping[str, int] | None) -> dict[str, int]:
    found: Mapping[str, Any] = cast("dict[str, Any]", value) if isinstance(value, dict) else recorded or {}
    return {key: rank for key, rank in found.items() if isinstance(rank, int) and rank > 0}
