"""A metric against the configuration, against groups by hand."""

# ruff: noqa: PD010 (the method is that of Runs, not of a frame)

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gradience_analysis.errors import GradienceError
from gradience_analysis.runs import Runs, load_runs
from gradience_analysis.runs.expression import UnknownColumnError
from tests.analysis.records import end, evaluation, record, write

SWEEP = [
    # rank, learning rate, seed, held-out losses
    (8, 0.1, 1, [3.0, 1.0]),
    (8, 0.1, 2, [3.0, 2.0]),
    (8, 0.1, 3, [1.5, 9.0]),
    (8, 0.2, 1, [4.0]),
    (16, 0.1, 1, [None]),
    (16, 0.2, 1, []),
    (None, 0.2, 1, [7.0]),
]


@pytest.fixture
def sweep(tmp_path: Path) -> Runs:
    """Runs over rank, learning rate and seed; one diverged, one was never evaluated, one has no rank."""
    for place, (rank, rate, seed, losses) in enumerate(SWEEP):
        config: dict[str, Any] = {"optimizer": {"lr": rate}, "training": {"seed": seed}}
        if rank is not None:
            config["lora"] = {"r": rank}
        lines = [record("run_start", run_id=f"id-{place}", config=config)]
        for step, loss in enumerate(losses):
            nan = {} if loss is not None else {"nonfinite": {"/metrics/loss": "nan"}}
            lines.append({**evaluation(step, "val", run_id=f"id-{place}", loss=loss), **nan})
        write(tmp_path / f"{place}.jsonl", [*lines, end(run_id=f"id-{place}")])
    return load_runs(tmp_path)


def test_seeds_become_a_median_with_their_count(sweep: Runs) -> None:
    """Given seeds, when pivoted by the settings, then a row has the median, the range and how many there were."""
    table = sweep.pivot("val.loss", by=["lora.r", "optimizer.lr"])
    assert list(table.columns) == ["val.loss.final", "min", "max", "count", "runs"]
    assert table.index.names == ["lora.r", "optimizer.lr"]
    rows = {
        tuple(None if key is pd.NA else key for key in index): list(row)
        for index, row in zip(table.index, table.itertuples(index=False), strict=True)
    }
    assert rows[8, 0.1] == [statistics.median([1.0, 2.0, 9.0]), 1.0, 9.0, 3, 3]
    assert rows[8, 0.2] == [4.0, 4.0, 4.0, 1, 1]
    assert rows[16, 0.2] == [pd.NA, pd.NA, pd.NA, 0, 1]
    assert rows[None, 0.2] == [7.0, 7.0, 7.0, 1, 1]
    assert math.isnan(rows[16, 0.1][0])
    assert rows[16, 0.1][3:] == [1, 1]
    assert list(rows)[-1] == (None, 0.2)


def test_best_in_place_of_final(sweep: Runs) -> None:
    """Given value="best", when pivoted, then the best of each run counts."""
    assert sweep.pivot("val.loss", "optimizer.lr", value="best")["val.loss.best"].tolist() == [1.5, 5.5]
    assert sweep.pivot("val.loss.best", "optimizer.lr").equals(sweep.pivot("val.loss", "optimizer.lr", "best"))


def test_one_setting_over_another(sweep: Runs) -> None:
    """Given over, when pivoted, then its values are the columns, and a cell without a value is NA."""
    table = sweep.pivot("val.loss", by="lora.r", over="optimizer.lr")
    assert table.columns.tolist() == [0.1, 0.2]
    assert table.columns.name == "optimizer.lr"
    assert table[0.1].tolist()[0] == 2.0
    assert table[0.2].tolist() == [4.0, pd.NA, 7.0]
    counts = sweep.pivot("val.loss", by="lora.r", over="optimizer.lr", aggregate="count")
    assert counts[0.1].tolist() == [3.0, 1.0, pd.NA]


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("median", 2.0),
        ("mean", 4.0),
        ("min", 1.0),
        ("max", 9.0),
        ("std", statistics.stdev([1.0, 2.0, 9.0])),
        ("count", 3),
    ],
)
def test_aggregates(sweep: Runs, aggregate: Any, expected: float) -> None:
    """Given three seeds, when put together in each way, then the number is that of the formula."""
    table = sweep.query("lora.r == 8").pivot("val.loss", "lora.r", over="optimizer.lr", aggregate=aggregate)
    assert table[0.1].tolist() == [expected]
    if aggregate == "std":
        assert table[0.2].tolist() == [pd.NA]


def test_any_number_of_a_run(sweep: Runs) -> None:
    """Given a column that is no metric, when pivoted, then it is taken as it is."""
    assert sweep.pivot("findings.error", "lora.r")["findings.error"].tolist() == [0.0, 0.5, 0.0]


def test_what_cannot_be_pivoted_says_so(sweep: Runs) -> None:
    """Given an unknown metric, column, value or aggregate, when pivoted, then the error says what there is."""
    with pytest.raises(UnknownColumnError, match=r"Did you mean val\.loss"):
        sweep.pivot("val.los", "lora.r")
    with pytest.raises(UnknownColumnError, match=r"Did you mean lora\.r"):
        sweep.pivot("val.loss", "lora.rank")
    with pytest.raises(GradienceError, match="There is: final, best"):
        sweep.pivot("val.loss", "lora.r", value="worst")
    with pytest.raises(GradienceError, match="no numbers"):
        sweep.pivot("status", "lora.r")
    with pytest.raises(GradienceError, match="median, mean"):
        sweep.pivot("val.loss", "lora.r", aggregate="mode")  # type: ignore[arg-type]
    with pytest.raises(GradienceError, match="to group by"):
        sweep.pivot("val.loss", [])
