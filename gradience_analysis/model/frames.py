"""The one room that builds pandas frames; imported only when a frame is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from gradience_analysis.model.event import Event

if TYPE_CHECKING:
    from gradience_analysis.model.run import Run

_STEP_COLUMNS = ("run_id", "segment", "step", "ts", "loss", "lr", "grad_norm", "epoch")
_EVAL_COLUMNS = ("run_id", "segment", "step", "ts", "split", "metric", "value")


def steps_frame(run: Run) -> pd.DataFrame:
    """One row per `train_step`; a learning rate per group gives `lr`, `lr_1`, `lr_2`."""
    places = _segment_of(run)
    rows: list[dict[str, Any]] = []
    for event in run.of("train_step"):
        row: dict[str, Any] = _key(event, places)
        for name, value in event.payload.items():
            if name == "lr" and isinstance(value, list):
                groups = enumerate(cast("list[Any]", value))
                row.update({("lr" if i == 0 else f"lr_{i}"): entry for i, entry in groups})
            elif name not in row and not isinstance(value, dict | list):
                row[name] = value
        rows.append(row)
    return _frame(rows, _STEP_COLUMNS)


def evals_frame(run: Run) -> pd.DataFrame:
    """One row per evaluation and metric; values keep the type they were written with."""
    from gradience_analysis.model.run import canonical_split

    places = _segment_of(run)
    rows = [
        {**_key(event, places), "split": canonical_split(event.payload["split"]), "metric": name, "value": value}
        for event in run.of("eval")
        for name, value in event.payload["metrics"].items()
    ]
    return _frame(rows, _EVAL_COLUMNS)


def _segment_of(run: Run) -> dict[int, int]:
    return {id(event): segment.index for segment in run.segments for event in segment.events}


def _key(event: Event, places: dict[int, int]) -> dict[str, Any]:
    return {"run_id": event.run_id, "segment": places[id(event)], "step": event.step, "ts": event.ts}


def _frame(rows: list[dict[str, Any]], leading: tuple[str, ...]) -> pd.DataFrame:
    names = dict.fromkeys((*leading, *(name for row in rows for name in row)))
    frame = pd.DataFrame({name: _column([row.get(name) for row in rows]) for name in names})
    return frame.astype({"step": "Int64"})


def _column(values: list[Any]) -> pd.Series[Any]:
    # A column of which nothing was logged is a numeric one without values, not one of objects.
    return pd.Series(values, dtype="float64" if all(value is None for value in values) else None)
