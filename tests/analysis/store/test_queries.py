"""The queries of docs/store.md, run by DuckDB on a store, against numbers that were put into the files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.store import ingest
from tests.analysis.records import end, start, train, write
from tests.analysis.store.trees import run_file

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "store.md"
QUERIES = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a query in a folder with a store of three runs: one of other columns, one resumed, one with a bad line."""
    duckdb = pytest.importorskip("duckdb")
    monkeypatch.chdir(tmp_path)
    run_file(Path("outputs/a/run.jsonl"), "run-a", steps=4, tokens=2**53 + 1)
    run_file(Path("outputs/b/run.jsonl"), "run-b", steps=3, tokens=0.5, note="text")
    with Path("outputs/b/run.jsonl").open("ab") as file:
        file.write(b'{"oops\n')
    write(
        Path("outputs/c.jsonl"),
        [
            *(start(run_id="run-c"), *train([1, 2, 3], run_id="run-c")),
            *(start(run_id="run-c", ts=50.0), *train([2, 3], run_id="run-c", ts=51.0, loss=1.0), end(run_id="run-c")),
        ],
    )
    ingest(["outputs"], "runs.store")
    connection = duckdb.connect()
    return lambda text: connection.execute(text).fetchall()


def test_every_query_is_tested_here() -> None:
    """Given docs/store.md, when its queries are counted, then there are as many as the tests below run."""
    assert len(QUERIES) == 5


def test_the_last_loss_of_each_run(query: Any) -> None:
    """Given three runs, when asked for the last loss, then those that were written last come, over all columns."""
    found = {row[0]: row[1:] for row in query(QUERIES[0])}
    assert found["run-a"] == (2.0 - 0.01 * 4, 4)
    assert found["run-b"] == (2.0 - 0.01 * 3, 3)
    assert found["run-c"][1] == 3


def test_the_best_evaluation_beside_the_configuration(query: Any) -> None:
    """Given runs with an evaluation, when joined with their configuration, then rate and rank stand beside it."""
    assert sorted(query(QUERIES[1])) == [("run-a", 2e-4, 8, 2.25, 4), ("run-b", 2e-4, 8, 2.25, 3)]


def test_runs_with_findings(query: Any) -> None:
    """Given a run with a refused line, when asked for findings, then it is named, and a clean run is not."""
    found = {row[0]: row[1:] for row in query(QUERIES[2])}
    assert sum(found["run-b"][:2]) >= 1
    assert "run-a" not in found


def test_refused_lines_with_their_reason(query: Any, tmp_path: Path) -> None:
    """Given a refused line, when asked for, then its place, code and size come."""
    ((path, line, code, message, size),) = query(QUERIES[3])
    assert (path, line, size) == (str(tmp_path / "outputs/b/run.jsonl"), 7, 6)
    assert code
    assert message


def test_steps_that_were_trained_again_are_those_of_the_later_part(query: Any) -> None:
    """Given a run that went back to step 2, when asked for each step once, then the second part's come."""
    found = {row[1]: row[2] for row in query(QUERIES[4]) if row[0] == "run-c"}
    assert found == {1: 2.0 - 0.01, 2: 1.0 - 0.02, 3: 1.0 - 0.03}


def test_columns_of_one_run_alone_are_there_by_name(query: Any) -> None:
    """Given a column that one run has, when all steps are selected by name, then it is null in the others."""
    text = "SELECT DISTINCT run_id, note FROM read_parquet('runs.store/steps/*/*.parquet', union_by_name = true)"
    assert sorted(query(text)) == [("run-a", None), ("run-b", "text"), ("run-c", None)]
