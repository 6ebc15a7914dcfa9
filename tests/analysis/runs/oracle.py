"""Runs taken apart with json.loads and plain loops: nothing here comes from the code under test."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

ENVELOPE = {"schema", "ts", "run_id", "event", "step", "seq", "dropped_events", "telemetry_faults", "nonfinite"}
VALIDATION = {"eval", "validation", "dev", "valid"}


def records(path: Path) -> list[dict[str, Any]]:
    """Every record of a file with its line, NaN and infinities restored at the top level and in `metrics`."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        record = json.loads(line)
        for pointer, mark in record.get("nonfinite", {}).items():
            *parents, last = pointer.split("/")[1:]
            holder = record
            for part in parents:
                holder = holder[part]
            holder[last] = float(mark)
        found.append({**record, "line": number})
    return found


def view(files: Iterable[Path]) -> list[tuple[int, dict[str, Any]]]:
    """(segment, record) of the segments of one run, given in order; a later one replaces the steps it trained again."""
    segments = [records(path) for path in files]
    shown: list[tuple[int, dict[str, Any]]] = []
    for index, segment in enumerate(segments):
        limit = math.inf
        for later in segments[index + 1 :]:
            trained = [record["step"] for record in later if record["event"] == "train_step"]
            resumed = next((record.get("meta", {}).get("resume_step") for record in later[:1]), None)
            limit = min([limit, *trained, *([resumed + 1] if resumed is not None else [])])
        for record in segment:
            gone = record["event"] in {"train_step", "eval", "metrics"} and (record["step"] or 0) >= limit
            if not gone:
                shown.append((index, record))
    return shown


def step_rows(files: Iterable[Path]) -> list[dict[str, Any]]:
    """What `steps` must hold of one run, without what is null."""
    rows = []
    for segment, record in view(files):
        if record["event"] != "train_step":
            continue
        row = {"run_id": record["run_id"], "segment": segment, "step": record["step"], "ts": record["ts"]}
        for name, value in record.items():
            if name in ENVELOPE or value is None or isinstance(value, dict | list):
                continue
            row[name] = value
        rows.append(row)
    return rows


def eval_rows(files: Iterable[Path]) -> list[dict[str, Any]]:
    """What `evals` must hold of one run, numbers only."""
    return [
        {
            "run_id": record["run_id"],
            "segment": segment,
            "step": record["step"],
            "ts": record["ts"],
            "split": "val" if record["split"].lower() in VALIDATION else record["split"],
            "metric": metric,
            "value": value,
            "line": record["line"],
        }
        for segment, record in view(files)
        if record["event"] == "eval"
        for metric, value in record["metrics"].items()
    ]


def rows_of(frame: pd.DataFrame, without: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The rows of a frame without what is NA."""
    columns = {name: frame[name].tolist() for name in frame.columns if name not in set(without)}
    return [
        {name: values[place] for name, values in columns.items() if values[place] is not pd.NA}
        for place in range(len(frame))
    ]


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal to the last bit, and of one kind: 1 is not 1.0, and NaN is NaN."""
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    return type(one) is type(other) and bool(one == other)


def equal_rows(found: list[dict[str, Any]], expected: list[dict[str, Any]], floats: Iterable[str] = ()) -> bool:
    """Whether rows are the same; an integer is looked for as a float in the columns that are always floats."""
    always = set(floats)

    def cast(name: str, value: Any) -> Any:
        return float(value) if name in always and isinstance(value, int) else value

    return len(found) == len(expected) and all(
        row.keys() == wanted.keys() and all(same(row[name], cast(name, wanted[name])) for name in wanted)
        for row, wanted in zip(found, expected, strict=True)
    )


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The names whose values differ."""
    return {
        name: (found.get(name), expected.get(name))
        for name in {*found, *expected}
        if not same(found.get(name), expected.get(name))
    }
