"""Final, best and lowest values of many curves at once, each exactly as it was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gradience_analysis.tables.arrow import pa, pc
from gradience_analysis.telemetry.signals import lower_is_better

_NUMBERS: Final = ("integer", "number")


class Extreme(NamedTuple):
    """The end and the best of one curve.

    Attributes:
        key: What tells the curve from others.
        final: Its last value, NaN and infinities included.
        best: Its best finite value, the first of equals; None when the direction is not known or nothing is finite.
        best_step: The step of the best value; None when the record names none.
    """

    key: tuple[str, ...]
    final: float | int
    best: float | int | None
    best_step: int | None


def extremes_of_losses(steps: Any) -> Iterator[Extreme]:
    """The training loss of each run (key: run_id) in a `steps` table of the analysis view; lower is better."""
    rows = steps.select(["run_id", "step", "loss"]).filter(pc.is_valid(steps["loss"]))
    return _extremes(rows, ["run_id"], rows["loss"], lambda _: True, lambda places: _at(rows, "loss", places))


def extremes_of_metrics(evals: Any) -> Iterator[Extreme]:
    """Every number of each run (key: run_id, split, metric) in an `evals` table; the name says what is best."""
    rows = evals.filter(pc.is_in(evals["type"], value_set=pa.array(_NUMBERS)))
    # An integer that a double cannot hold stands in `text`; it is ordered by the nearest double and given exactly.
    nearest = pc.coalesce(rows["value"], rows["text"].cast(pa.float64()))
    return _extremes(
        rows,
        ["run_id", "split", "metric"],
        nearest,
        lambda key: lower_is_better(key[2]),
        lambda places: [_exact(row) for row in rows.select(["value", "type", "text"]).take(places).to_pylist()],
    )


def _exact(row: dict[str, Any]) -> float | int:
    if row["value"] is None:
        return int(row["text"])
    return int(row["value"]) if row["type"] == "integer" else row["value"]


def _extremes(
    rows: Any,
    keys: list[str],
    nearest: Any,
    lower: Callable[[tuple[str, ...]], bool | None],
    exact: Callable[[Any], list[Any]],
) -> Iterator[Extreme]:
    if not rows.num_rows:
        return
    codes, names = _codes(rows, keys)
    values = nearest.combine_chunks().to_numpy(zero_copy_only=False)
    directions = [lower(name) for name in names]
    signs = np.array([0.0 if one is None else 1.0 if one else -1.0 for one in directions])
    last = len(codes) - 1 - np.unique(codes[::-1], return_index=True)[1]
    with_best, best = _first_best(codes, values, signs[codes])
    bests = dict(zip(with_best.tolist(), zip(exact(best), _at(rows, "step", best), strict=True), strict=True))
    for code, (name, final) in enumerate(zip(names, exact(last), strict=True)):
        yield Extreme(name, final, *bests.get(code, (None, None)))


def _at(rows: Any, name: str, places: npt.NDArray[Any]) -> list[Any]:
    values: list[Any] = rows[name].take(places).to_pylist()
    return values


def _first_best(
    codes: npt.NDArray[Any], values: npt.NDArray[Any], signs: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The curves that have a direction and a finite value, and the row of the best of each."""
    rows = np.flatnonzero(np.isfinite(values) & (signs != 0))
    order = rows[np.lexsort((rows, values[rows] * signs[rows], codes[rows]))]
    found, first = np.unique(codes[order], return_index=True)
    return found, order[first]


def _codes(rows: Any, keys: list[str]) -> tuple[npt.NDArray[np.int64], list[tuple[str, ...]]]:
    """A number for each row that is the same for rows of one curve, from 0 on, and the key of each number."""
    codes = np.zeros(rows.num_rows, dtype=np.int64)
    for key in keys:
        encoded = rows[key].combine_chunks().dictionary_encode()
        codes = codes * len(encoded.dictionary) + encoded.indices.to_numpy()
    _, first, codes = np.unique(codes, return_index=True, return_inverse=True)
    names = list(zip(*(_at(rows, key, first) for key in keys), strict=True))
    return codes.astype(np.int64), names
