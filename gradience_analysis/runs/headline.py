"""Which columns of the table of runs to show first: what differs, what came out, what was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gradience_analysis.runs.flatten import KNOWN
from gradience_analysis.runs.summary import NO_RUN_END
from gradience_analysis.tables.arrow import pa, pc

_CONFIG: Final = ("model_name", "dataset_name", "lora.r", "lora.alpha", "optimizer.lr", "training.seed")
# What follows from other settings, or from the data, and would only repeat them.
_DERIVED: Final = frozenset(
    {
        *("lora.alpha_over_r", "lora.scaling", "lora.trainable_params", "lora.total_params"),
        *("training.num_train_examples", "training.warmup_steps", "notes"),
    }
)
_PREFIXES: Final = ("optimizer.", "lora.", "training.", "extras.", "config.")
_HELD_OUT: Final = ("val", "test")
# Perplexity says what the loss says.
_METRICS: Final = (("loss", "ppl"), ("accuracy",))
_AT_THE_END: Final = ("gap", "findings.error", "findings.warning", "steps", "duration_s", "started")
_MOST_VARYING: Final = 6


def headline(table: Any) -> list[str]:
    """The columns to show, in the order in which to show them.

    Name and status, the settings that differ between the runs, then what came out: the training loss, the metrics of
    `val` (of `test` without one) at their best, the gap, the findings. A column without a value is left out.
    """
    columns = ["name", "status", *varying(table), "loss.final", *_outcomes(table), *_AT_THE_END]
    return [name for name in columns if name in table.column_names and _some(table, name)]


def by_weight(table: Any, names: Sequence[str]) -> list[str]:
    """The same columns, that which matters most first: where room is short, the last ones go."""
    settings = [name for name in varying(table) if name in names]
    outcomes = _outcomes(table)
    first = ["name", *outcomes[:1], "status", *settings[:3], "gap", "loss.final", *settings[3:], *outcomes[1:]]
    return [name for name in dict.fromkeys([*first, *names]) if name in names]


def varying(table: Any) -> list[str]:
    """Settings of which the runs have different values, the best known first; at most six."""
    settings = [name for name in _settings(table) if _distinct(table, name) > 1]
    ratio = "lora.alpha_over_r"
    if "lora.r" in settings and ratio in table.column_names and _distinct(table, ratio) == 1:
        settings = [name for name in settings if name != "lora.alpha"]
    return settings[:_MOST_VARYING]


def constant(table: Any) -> list[str]:
    """The best known settings that are the same in all runs."""
    known = [name for name in _CONFIG if name in table.column_names and _some(table, name)]
    return [name for name in known if _distinct(table, name) == 1]


def status_counts(table: Any) -> dict[str, int]:
    """Runs by status: ok, aborted, error, no run_end, without those that have none."""
    statuses = table["status"].to_pylist()
    return {name: statuses.count(name) for name in ("ok", "aborted", "error", NO_RUN_END) if name in statuses}


def _settings(table: Any) -> list[str]:
    found = [name for name in table.column_names if name in KNOWN or name.startswith(_PREFIXES)]
    ordered = [*(name for name in _CONFIG if name in found), *(name for name in found if name not in _CONFIG)]
    return [name for name in ordered if name not in _DERIVED and ".extras." not in name]


def _outcomes(table: Any) -> list[str]:
    names: Sequence[str] = table.column_names
    split = next((split for split in _HELD_OUT if any(name.startswith(f"{split}.") for name in names)), "")
    found: list[str] = []
    for metrics in _METRICS:
        wanted = [f"{split}.{metric}.{kind}" for metric in metrics for kind in ("best", "final")]
        found += [name for name in wanted if name in names][:1]
    return found


def _some(table: Any, name: str) -> bool:
    return bool(table[name].null_count < table.num_rows)


def _distinct(table: Any, name: str) -> int:
    return int(pc.count_distinct(table[name], mode="all").as_py()) if not pa.types.is_null(table[name].type) else 1
