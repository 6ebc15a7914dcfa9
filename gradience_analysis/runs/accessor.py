"""`df.gradience`: what is asked of frames of steps and evaluations, also after they were filtered or joined."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from gradience_analysis.errors import GradienceError
from gradience_analysis.runs.expression import UnknownColumnError
from gradience_analysis.runs.frames import aligned, frame
from gradience_analysis.runs.gaps import EvalRow, gap_of
from gradience_analysis.tables.arrow import pa
from gradience_analysis.telemetry.signals import Gap, lower_is_better

_LONG: Final = ("split", "kind")


@pd.api.extensions.register_dataframe_accessor("gradience")
class GradienceAccessor:
    """Methods on a frame with a column `run_id`, such as `Runs.steps` and `Runs.evals`.

    A frame of steps has a column for each scalar; a frame of evaluations has `split` (of metrics `kind`), `metric` and
    `value`, and there a curve is named `val.loss`.

    Args:
        frame: The frame.

    Raises:
        AttributeError: The frame has no column `run_id`.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        if "run_id" not in frame.columns:
            raise AttributeError("df.gradience needs a column run_id, as Runs.steps and Runs.evals have.")
        self._frame = frame

    def curve(self, metric: str) -> pd.DataFrame:
        """A metric of every run against the step, as `Runs.curve`; a column is labelled by the run id.

        Raises:
            UnknownColumnError: There is no such metric.
        """
        rows = self._rows(metric)
        table = pa.table(
            {
                "run_id": pa.array(rows["run_id"].tolist(), pa.string()),
                "step": pa.array(_absent_as_none(rows["step"]), pa.int64()),
                "value": pa.array(_absent_as_none(rows["value"])),
            }
        )
        present = table.filter(table["step"].is_valid())
        return aligned(present, {run_id: run_id for run_id in dict.fromkeys(self._frame["run_id"].tolist())})

    def smooth(self, column: str, halflife: float = 10.0) -> pd.Series[Any]:
        """An exponential moving average of a column over the steps of each run.

        Formula: the mean of all values up to a row, each weighted by 0.5 ** (steps since it / halflife); so it does not
        depend on how often was logged, and its first value is the first value. NA and non-finite values stay where they
        are and have no weight. A row without a step counts as one at the step before it.

        Args:
            column: A column of numbers.
            halflife: Steps after which a value counts half; above 0.

        Returns:
            A column of doubles in the rows of the frame.

        Raises:
            UnknownColumnError: There is no such column.
            GradienceError: The half-life is not above 0.
        """
        if column not in self._frame.columns:
            raise UnknownColumnError(column, [str(name) for name in self._frame.columns], "the frame")
        if not halflife > 0:
            raise GradienceError(f"The half-life must be above 0, not {halflife}.", "It is a number of steps.")
        values = _absent_as_none(self._frame[column])
        steps = _absent_as_none(self._frame["step"])
        result: list[float | None] = list(values)
        for places in self._places("run_id"):
            _smooth(places, values, steps, halflife, result)
        kind = pd.ArrowDtype(pa.float64())
        return pd.Series(pd.array(pa.array(result, pa.float64()), dtype=kind), index=self._frame.index, name=column)

    def last(self) -> pd.DataFrame:
        """The last row of each run; of a frame of evaluations, of each run, split and metric."""
        return self._frame.iloc[[int(places[-1]) for places in self._places(*self._curve_keys())]]

    def best(self, metric: str) -> pd.DataFrame:
        """The row with the best finite value of a metric for each run that has one, the first of equals.

        Raises:
            UnknownColumnError: There is no such metric.
            GradienceError: Its name does not tell whether more or less is better.
        """
        rows = self._rows(metric)
        lower = lower_is_better(metric.rpartition(".")[2])
        if lower is None:
            remedy = "Sort by the column itself: the name decides for losses, perplexities, accuracies and the like."
            raise GradienceError(f"Whether more or less {metric} is better is not known.", remedy)
        found: dict[str, tuple[float, int]] = {}
        for run_id, value, place in zip(
            rows["run_id"].tolist(), _absent_as_none(rows["value"]), rows["place"].tolist(), strict=True
        ):
            if value is None or not math.isfinite(value):
                continue
            rank = value if lower else -value
            if run_id not in found or rank < found[run_id][0]:
                found[run_id] = rank, place
        return self._frame.iloc[[place for _, place in found.values()]]

    def gap(self) -> pd.DataFrame:
        """The generalization gap of each run of a frame of evaluations, by the definition of `gradience monitor`.

        Only evaluations count here: a run that did not evaluate split train has no gap, and `reason` says what to log.

        Returns:
            Index `run_id`; `gap` at the last evaluation and `gap_at_best` at the one with the best held-out number
            (ratios, 1 means none), `kind`, `split`, `step`, and `reason` where there is none.

        Raises:
            GradienceError: The frame is not one of evaluations.
        """
        if not {"split", "metric", "value"} <= set(self._frame.columns):
            raise GradienceError("gap() needs a frame of evaluations.", "Use runs.evals.gradience.gap().")
        rows: dict[str, list[EvalRow]] = {run_id: [] for run_id in self._frame["run_id"].tolist()}
        for row in cast("list[dict[str, Any]]", self._frame.to_dict("records")):
            place = tuple(row.get(name) for name in ("segment", "line", "step", "split"))
            value, step = (None if row[name] is pd.NA else row[name] for name in ("value", "step"))
            rows[row["run_id"]].append(EvalRow(place, step, row["split"], row["metric"], value))
        gaps = [_gap_row(gap_of(run_id, mine, lambda: ())) for run_id, mine in rows.items()]
        table = pa.Table.from_pylist(gaps, schema=_GAPS)
        index = pd.Index(pd.array(pa.array(list(rows), pa.string()), dtype=pd.ArrowDtype(pa.string())), name="run_id")
        return frame(table).set_index(index)

    def _curve_keys(self) -> list[str]:
        names = self._frame.columns
        return ["run_id", *(name for name in (*_LONG, "metric") if "metric" in names and name in names)]

    def _places(self, *keys: str) -> Iterator[npt.NDArray[np.int64]]:
        """Positions of the rows of each group, in order of first appearance."""
        groups = list(zip(*(self._frame[key].tolist() for key in keys), strict=True))
        places: dict[tuple[Any, ...], list[int]] = {}
        for place, group in enumerate(groups):
            places.setdefault(group, []).append(place)
        return (np.array(found, dtype=np.int64) for found in places.values())

    def _rows(self, metric: str) -> pd.DataFrame:
        """run_id, step, value and place of the rows in which a metric has a value."""
        names = [str(name) for name in self._frame.columns]
        numbered = self._frame.assign(place=np.arange(len(self._frame)))
        group = next((name for name in _LONG if name in names and "metric" in names), None)
        if group is None:
            if metric not in names or metric == "run_id":
                raise UnknownColumnError(metric, names, "the frame")
            found = numbered.assign(value=numbered[metric])
        else:
            label = numbered[group].astype(str) + "." + numbered["metric"].astype(str)
            found = numbered[(label == metric).to_numpy()]
            if not len(found):
                raise UnknownColumnError(metric, list(dict.fromkeys(label.tolist())), "the frame")
        return found.loc[found["value"].notna().to_numpy(), ["run_id", "step", "value", "place"]]


_GAPS: Final = pa.schema(
    [
        ("gap", pa.float64()),
        ("gap_at_best", pa.float64()),
        ("kind", pa.string()),
        ("split", pa.string()),
        ("step", pa.int64()),
        ("reason", pa.string()),
    ]
)


def _gap_row(gap: Gap | str) -> dict[str, Any]:
    if isinstance(gap, str):
        return {"reason": gap}
    return {
        "gap": gap.last.ratio,
        "gap_at_best": gap.best.ratio,
        "kind": gap.kind,
        "split": gap.held_out_split,
        "step": gap.last.step,
    }


def _absent_as_none(column: pd.Series[Any]) -> list[Any]:
    """Python values of a column of any backing; NA is None, NaN stays where the column tells them apart."""
    return [None if value is pd.NA or value is None else value for value in column.tolist()]


def _smooth(
    places: Sequence[int] | npt.NDArray[np.int64],
    values: Sequence[float | None],
    steps: Sequence[int | None],
    halflife: float,
    result: list[float | None],
) -> None:
    total = weight = 0.0
    before: int | None = None
    for place in places:
        value, step = values[place], steps[place]
        if value is None or not math.isfinite(value):
            continue
        at = before if step is None else step
        decay = 0.5 ** (max(0, at - before) / halflife) if at is not None and before is not None else 1.0
        total, weight = total * decay + value, weight * decay + 1.0
        before = at
        result[place] = total / weight
