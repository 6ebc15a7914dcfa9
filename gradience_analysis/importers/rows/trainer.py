"""Rows of the Hugging Face trainer's log, as several tools keep them, to telemetry/v1 events.

The names are those that `GradienceCallback` gives the same rows when it records a run, so that an imported run and a
recorded one can stand in one table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from gradience_analysis.importers.rows.values import is_number

_RUNTIME = "_runtime"
_SPEED = "_samples_per_second"
_LOSS = "_loss"
_EVAL = "eval"
_TOKEN_COUNTS = ("num_input_tokens_seen", "num_tokens")
_VALIDATION = frozenset({"eval", "validation", "valid", "dev"})


class Made(NamedTuple):
    """One event that a row gives.

    Attributes:
        event: Event type.
        fields: Fields of the row that belong to it, under v1's names.
        made: `split` and `metrics`, or `kind` and `metrics`, of the events that require them.
    """

    event: str
    fields: Mapping[str, Any]
    made: Mapping[str, Any]


def eval_set_names(rows: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Names of the sets that a log without run times shows to be several.

    With times, `eval_<name>_runtime` tells. Without, `eval_<name>_loss` may be a loss of one set (`eval_aux_loss`) or
    the loss of a set called `<name>`; it is read as a set when the log has no `eval_loss` at all and two or more such
    names.
    """
    names: set[str] = set()
    for row in rows:
        if "eval_loss" in row or any(name.endswith(_RUNTIME) and name.startswith("eval_") for name in row):
            return frozenset()
        names |= {name[5 : -len(_LOSS)] for name in row if name.startswith("eval_") and name.endswith(_LOSS)}
    names.discard("")
    return frozenset(names) if len(names) > 1 else frozenset()


def split_evaluations(
    fields: Mapping[str, Any], sets: frozenset[str] = frozenset()
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The evaluations in a row (split → metrics without their prefix), and the fields that belong to none."""
    prefixes = _prefixes(fields, sets)
    found: dict[str, dict[str, Any]] = {}
    rest: dict[str, Any] = {}
    for name, value in fields.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(f"{prefix}_")), None)
        if prefix is None or name == f"{prefix}_":
            rest[name] = value
        else:
            found.setdefault(_split_name(prefix), {})[name[len(prefix) + 1 :]] = value
    return found, rest


def read_row(fields: Mapping[str, Any], sets: frozenset[str] = frozenset()) -> Iterator[Made]:
    """The events of one row, whose `step` has been taken out.

    A row with `loss` is a training step; else one with `train_loss` is the summary of training (`train_runtime` is no
    sign of it: ordinary rows carry that too), what has a prefix such as `eval_` is an evaluation, and anything else is
    kept as metrics of kind `log`.
    """
    evaluations, rest = split_evaluations(fields, sets)
    if "loss" in rest:
        yield Made("train_step", step_fields(rest), {})
    elif "train_loss" in rest:
        yield Made("metrics", {}, {"kind": "train_summary", "metrics": rest})
    elif not evaluations:
        yield Made("metrics", {}, {"kind": "log", "metrics": rest})
    beside = {name: rest[name] for name in ("epoch",) if name in rest} if {"loss", "train_loss"} & rest.keys() else rest
    for split, metrics in evaluations.items():
        yield Made("eval", beside, {"split": split, "metrics": metrics})


def step_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a training row: `learning_rate` as `lr`, tokens seen so far as `tokens`, the rest as it is."""
    tokens = next((name for name in _TOKEN_COUNTS if fields.get(name) is not None), None)
    names = {"learning_rate": "lr", **({tokens: "tokens"} if tokens else {})}
    named: dict[str, Any] = {}
    for name, value in fields.items():
        new = names.get(name, name)
        named[new if new == name or new not in fields else name] = value
    return named


def hides_nonfinite_loss(fields: Mapping[str, Any]) -> bool:
    """Whether a training row shows the sign of `logging_nan_inf_filter`: loss 0 with a gradient norm not finite.

    The filter replaces a NaN or infinite loss by the mean of those logged before it in the same interval, which is
    0.0 when there is none.
    """
    loss, norm = fields.get("loss"), fields.get("grad_norm")
    return is_number(loss) and loss == 0 and isinstance(norm, float) and not math.isfinite(norm)


def _prefixes(fields: Mapping[str, Any], sets: frozenset[str]) -> list[str]:
    timed = [
        prefix
        for name in fields
        if name.endswith(_RUNTIME) and (prefix := name.removesuffix(_RUNTIME)) and prefix + _SPEED in fields
    ]
    found = [prefix for prefix in timed if prefix != "train"]
    if not any(prefix.startswith("eval_") for prefix in found):
        found += [f"eval_{name}" for name in sets if f"eval_{name}{_LOSS}" in fields]
        found.append(_EVAL)
    found += [prefix for prefix in ("test", "predict") if prefix + _LOSS in fields]
    return sorted(set(found), key=lambda prefix: (-len(prefix), prefix))


def _split_name(prefix: str) -> str:
    name = prefix.removeprefix("eval_")
    return "val" if name in _VALIDATION else name
