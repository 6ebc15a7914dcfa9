"""The configuration that the records before the first step of an early log tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from gradience_analysis.importers.rows.values import is_number


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in cast("list[object]", value))


# Name in the log → part of the configuration ("" for its top), name there, and what a value must be.
_SLOTS: Mapping[str, tuple[str, str, Callable[[object], bool]]] = {
    "model": ("", "model_name", _is_text),
    "model_name": ("", "model_name", _is_text),
    "dataset": ("", "dataset_name", _is_text),
    "dataset_name": ("", "dataset_name", _is_text),
    "seed": ("training", "seed", _is_integer),
    "batch_size": ("training", "batch_size", _is_integer),
    "max_steps": ("training", "max_steps", _is_integer),
    "train_samples": ("training", "num_train_examples", _is_integer),
    "learning_rate": ("optimizer", "lr", is_number),
    "trainable_params": ("lora", "trainable_params", _is_integer),
    "total_params": ("lora", "total_params", _is_integer),
}
_LORA: Mapping[str, Callable[[object], bool]] = {
    "r": _is_integer,
    "alpha": is_number,
    "dropout": is_number,
    "target_modules": _is_texts,
    "bias": _is_text,
}


def config_of(records: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """`run_start.config` from (event, data) pairs: the first value of each known name that has the right type.

    What is not known is absent; nothing is filled in. The records themselves are kept beside it as events.
    """
    config: dict[str, Any] = {}
    for _, data in records:
        for name, (part, slot, fits) in _SLOTS.items():
            if name in data and fits(data[name]):
                (config.setdefault(part, {}) if part else config).setdefault(slot, data[name])
        lora = data.get("lora_config")
        if isinstance(lora, dict):
            given = cast("dict[str, Any]", lora)
            for name, fits in _LORA.items():
                if name in given and fits(given[name]):
                    config.setdefault("lora", {}).setdefault(name, given[name])
    return config
