"""Reads the rows that the Hugging Face trainer logs: the kind of each, and its values under telemetry/v1's names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

__all__ = ["Evaluation", "perplexity", "read_evaluation", "row_kind", "step_fields", "strip_prefix"]

RowKind = Literal["step", "summary", "evaluation", "other"]

_RUNTIME: Final = "_runtime"
_SPEED: Final = "_samples_per_second"
_SPLITS: Final[Mapping[str, str]] = {"eval": "val", "validation": "val", "dev": "val"}
_STEP_NAMES: Final[Mapping[str, str]] = {"learning_rate": "lr"}
_TOKEN_COUNTS: Final = ("num_input_tokens_seen", "num_tokens")


def row_kind(logs: Mapping[str, Any]) -> RowKind:
    """What a logged row is.

    A row with ``loss`` is a training step (it can carry ``train_runtime`` too). Else a row with ``train_loss`` or
    ``train_runtime`` is the summary of training, a row with another ``<prefix>_runtime`` and its speed is an
    evaluation, and everything else is the user's.
    """
    if "loss" in logs:
        return "step"
    if "train_loss" in logs or f"train{_RUNTIME}" in logs:
        return "summary"
    if any(key.endswith(_RUNTIME) and key.removesuffix(_RUNTIME) + _SPEED in logs for key in logs):
        return "evaluation"
    return "other"


def step_fields(logs: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``train_step`` in a training row: ``lr``, ``tokens`` (seen so far), the rest under its own name.

    ``tokens`` is the trainer's ``num_input_tokens_seen``, else TRL's ``num_tokens``.
    """
    tokens = next((name for name in _TOKEN_COUNTS if logs.get(name) is not None), None)
    names = {**_STEP_NAMES, **({tokens: "tokens"} if tokens else {})}
    fields: dict[str, Any] = {}
    for key, value in logs.items():
        name = names.get(key, key)
        fields[name if name == key or name not in logs else key] = value
    return fields


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation as telemetry/v1 writes it.

    Attributes:
        split: what was evaluated.
        metrics: name without the trainer's prefix → value.
        beside: what the trainer put among the metrics but is none, such as ``epoch``.
    """

    split: str
    metrics: dict[str, Any]
    beside: dict[str, Any] = field(default_factory=dict[str, Any])


def read_evaluation(metrics: Mapping[str, Any], default_split: str) -> Evaluation:
    """An evaluation from the metrics that the trainer hands to its callbacks.

    The prefix is that of the ``<prefix>_runtime`` key which most keys share. ``eval`` (and ``validation``, ``dev``) is
    the split ``val``; ``eval_<name>``, which the trainer makes for one of several sets, is ``<name>``; any other prefix
    is the split itself. Without such a key the names stay as they are and the split is ``default_split``.
    """
    prefixes = [key.removesuffix(_RUNTIME) for key in metrics if key.endswith(_RUNTIME)]
    if not prefixes:
        return Evaluation(default_split, dict(metrics))
    prefix = max(
        prefixes, key=lambda candidate: (sum(key.startswith(f"{candidate}_") for key in metrics), -len(candidate))
    )
    named = strip_prefix(metrics, prefix)
    beside = {key: value for key, value in metrics.items() if not key.startswith(f"{prefix}_")}
    name = prefix.removeprefix("eval_")
    return Evaluation(_SPLITS.get(name, name), named, beside)


def strip_prefix(metrics: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The metrics whose name starts with ``prefix_``, without it."""
    start = f"{prefix}_"
    return {key.removeprefix(start): value for key, value in metrics.items() if key.startswith(start)}


def perplexity(loss: Any) -> float | None:
    """``exp(loss)`` of a mean cross-entropy in nats; infinite past the largest float, None for no number."""
    if not isinstance(loss, (int, float)) or isinstance(loss, bool):
        return None
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
