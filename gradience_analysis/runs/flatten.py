"""A run's configuration as columns with dotted names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

from gradience_analysis.tables.arrow import pa
from gradience_analysis.tables.columns import TEXT, column

_MAX_DEPTH: Final = 16
KNOWN: Final[Mapping[str, Any]] = {
    "model_name": pa.string(),
    "dataset_name": pa.string(),
    "task_profile": pa.string(),
    "optimizer.name": pa.string(),
    "optimizer.lr": pa.float64(),
    "lora.r": pa.int64(),
    "lora.alpha": pa.float64(),
    "training.seed": pa.int64(),
    "training.batch_size": pa.int64(),
    "training.max_steps": pa.int64(),
}
"""Columns that are always there, with the type they have when no run says anything."""
_TEXTS: Final = frozenset(
    {"notes", "lora.bias", "lora.peft_type", "lora.target_modules", "training.dtype", "training.lr_scheduler"}
)


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every scalar of a configuration under its dotted name; a list is text, as JSON. Null means nothing was said.

    Example: `{"lora": {"r": 8, "target_modules": ["q_proj"]}}` gives `lora.r` 8 and `lora.target_modules`
    `["q_proj"]`. An empty object gives nothing.
    """
    return dict(_leaves(config, "", 0))


def _leaves(config: Mapping[str, Any], lead: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        name = f"{lead}{key}"
        if isinstance(value, Mapping) and depth < _MAX_DEPTH:
            yield from _leaves(cast("Mapping[str, Any]", value), f"{name}.", depth + 1)
        elif isinstance(value, list | Mapping):
            yield name, json.dumps(value, ensure_ascii=False)
        else:
            yield name, value


def config_columns(configs: Sequence[Mapping[str, Any]], taken: Iterable[str]) -> dict[str, Any]:
    """Arrow columns of flattened configurations, one row each: the known ones first, then by name.

    A column is int64 when every number in it is an integer, else float64; what it cannot hold (text among numbers)
    stands as text in a column `<name>__text` beside it. A name in `taken` gets `config.` before it.
    """
    found = {name for config in configs for name in config}
    names = [*KNOWN, *sorted(found - KNOWN.keys())]
    reserved = set(taken)
    columns: dict[str, Any] = {}
    for name in names:
        held, text = column([config.get(name) for config in configs])
        if pa.types.is_null(held.type):
            held = held.cast(KNOWN.get(name, pa.string() if name in _TEXTS else pa.float64()))
        label = f"config.{name}" if name in reserved else name
        columns[label] = held
        if text is not None and text.null_count < len(text):
            columns[f"{label}{TEXT}"] = text
    return columns
