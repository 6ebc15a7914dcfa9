"""Arrow tables as pandas frames whose columns stay Arrow: exact, with absent and NaN told apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from gradience_analysis.tables.arrow import pa, pc

_LONG: Final = ("metric", "value", "type", "text", "line")
_KEYS: Final = ("run_id", "segment", "step", "ts")
COLUMNS: Final = {
    "evals": (*_KEYS, "split", *_LONG),
    "metrics": (*_KEYS, "kind", *_LONG),
    "alerts": (*_KEYS, "severity", "code", "message", "context", "line"),
    "issues": ("path", "line", "code", "severity", "message", "pointer", "keyword", "byte_offset"),
}
"""The columns of each frame; `steps` has one more for every scalar that was logged."""


def frame(table: Any) -> pd.DataFrame:
    """An Arrow table as a frame of Arrow-backed columns, in which a null is NA and a NaN stays NaN."""
    return table.to_pandas(types_mapper=pd.ArrowDtype)  # type: ignore[no-any-return]


def steps_frame(table: Any) -> pd.DataFrame:
    """The `steps` table of the analysis view: the keys, then the scalars, `line` last."""
    names = list(table.column_names)
    # A scalar that was logged as `segment` comes after the column of that name, and is moved aside.
    first = names.index("segment")
    renamed = [f"x_{name}" if name == "segment" and place != first else name for place, name in enumerate(names)]
    table = table.rename_columns(renamed)
    others = [name for name in renamed if name not in {*_KEYS, "path", "part", "line"}]
    return frame(table.select([*_KEYS, *others, "line"]))


def long_frame(name: str, table: Any) -> pd.DataFrame:
    """Any other table in the order of `COLUMNS`."""
    return frame(table.select(list(COLUMNS[name])))


def series(table: Any, name: str) -> Any:
    """The rows (run_id, step, value) of a step column in which it has a value, with a step."""
    return _present(table.select(["run_id", "step", name]).rename_columns(["run_id", "step", "value"]))


def metric_series(table: Any, group: str, name: str, metric: str) -> Any:
    """The same for one metric of one split of `evals` (group `split`) or of one kind of `metrics` (group `kind`).

    A value that a double cannot hold, or that is no number, is left out.
    """
    wanted = pc.and_(pc.equal(table[group], name), pc.equal(table["metric"], metric))
    return _present(table.filter(wanted).select(["run_id", "step", "value"]))


def _present(table: Any) -> Any:
    return table.filter(pc.and_(pc.is_valid(table["value"]), pc.is_valid(table["step"])))


def aligned(rows: Any, labels: Mapping[str, str]) -> pd.DataFrame:
    """Curves side by side: one row a step of any run, one column a run; NA where a run has no value at a step.

    Args:
        rows: run_id, step, value; of two values of a run at one step the later row counts.
        labels: Column label by run id, in the order of the columns.
    """
    rows = rows.combine_chunks()
    all_steps = rows["step"].to_numpy()
    steps = np.unique(all_steps)
    # Where each row goes: `later` overwrites what an earlier row of the same run and step has put there.
    encoded = pc.index_in(rows["run_id"], value_set=pa.array(list(labels), pa.string())).combine_chunks()
    run = encoded.fill_null(-1).to_numpy()
    order = np.argsort(run, kind="stable")
    bounds = np.searchsorted(run[order], np.arange(len(labels) + 1))
    place = cast("npt.NDArray[np.int64]", np.searchsorted(steps, all_steps))
    values = rows["value"].combine_chunks()
    columns: dict[str, Any] = {}
    for number, label in enumerate(labels.values()):
        mine = order[bounds[number] : bounds[number + 1]]
        row = np.full(len(steps), -1, dtype=np.int64)
        row[place[mine]] = mine
        columns[label] = values.take(pa.array(row, mask=row < 0))
    index = pd.Index(pd.array(pa.array(steps, pa.int64()), dtype=pd.ArrowDtype(pa.int64())), name="step")
    return frame(pa.table(columns)).set_index(index) if columns else pd.DataFrame(index=index)
