"""Reading a store: only the runs, tables and columns that are asked for, and plain words about what is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gradience_analysis.errors import InputError
from gradience_analysis.store import Store, ingest, open_store
from gradience_analysis.store.place import bucket_of
from gradience_analysis.tables.layout import SCHEMAS
from tests.analysis.records import start, train, write
from tests.analysis.store.trees import expected, rows, run_file, some_runs


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Three runs, the last with a bad line, and a file in which two runs take turns."""
    found = some_runs(tmp_path / "outputs")
    one, two = (train([1, 2, 3], run_id=run_id) for run_id in ("turn-a", "turn-b"))
    turns = [line for pair in zip(one, two, strict=True) for line in pair]
    return [*found, write(tmp_path / "outputs" / "turns.jsonl", [start(run_id="turn-a"), *turns])]


@pytest.fixture
def store(tmp_path: Path, paths: list[Path]) -> Store:
    """A store of these runs."""
    ingest(paths, tmp_path / "store")
    return open_store(tmp_path / "store")


def test_lines_of_runs_that_take_turns_come_back_in_order(store: Store, paths: list[Path]) -> None:
    """Given runs that take turns in a file, when all is read, then its lines come in their order."""
    assert rows(store.read()) == rows(expected(paths))
    assert store.run_ids() == ["run-0", "run-1", "run-2", "turn-a", "turn-b"]


@pytest.mark.parametrize("chosen", [["run-1"], ["run-2", "turn-b"], ["turn-a"], ["nobody"], []])
def test_only_the_runs_that_are_asked_for_come(store: Store, paths: list[Path], chosen: list[str]) -> None:
    """Given runs, when some are asked for, then rows come whose run, or else whose file, is theirs."""
    everything, found = rows(expected(paths)), rows(store.read(run_ids=chosen))
    files = {row["path"] for row in everything["parts"][1] if row["run_id"] in chosen}
    for name in SCHEMAS:
        whole = [
            row for row in everything[name][1] if (row["run_id"] in chosen if "run_id" in row else row["path"] in files)
        ]
        mine = found[name][1]
        assert [{key: row[key] for key in (mine[0] if mine else row)} for row in whole] == mine, name


def test_only_the_tables_and_columns_that_are_asked_for_come(store: Store, paths: list[Path]) -> None:
    """Given tables and columns, when asked for, then those come with their values, and other tables without a row."""
    whole = expected(paths)
    found = store.read(tables=["steps", "evals"], columns={"steps": ["step", "loss", "no_such"], "evals": ["value"]})
    assert found.steps.to_pylist() == whole.steps.select(["step", "loss"]).to_pylist()
    assert found.evals.to_pylist() == whole.evals.select(["value"]).to_pylist()
    assert (len(found.records), len(found.files)) == (0, 0)
    assert store.read(columns=["run_id", "loss"]).steps.column_names == ["run_id", "loss"]
    only = store.read(run_ids=["run-1"], tables=["steps"], columns=["step"]).steps
    assert only.to_pylist() == [{"step": step} for step in (1, 2, 3, 4)]


def test_text_beside_a_column_comes_with_it(tmp_path: Path) -> None:
    """Given a number that no float holds, when its column is asked for, then its text comes too."""
    path = run_file(tmp_path / "run.jsonl", steps=1, big=2**70)
    ingest([path], tmp_path / "store")
    found = open_store(tmp_path / "store").read(columns=["big"]).steps
    assert found.to_pylist() == [{"big": None, "big__text": str(2**70)}]


def test_other_buckets_are_not_opened(store: Store) -> None:
    """Given a store whose other buckets' steps are deleted, when one run's steps are read, then nothing is missing."""
    mine = f"bucket={bucket_of('run-1', 16):02}"
    for folder in (store.path / "steps").iterdir():
        if folder.name != mine:
            shutil.rmtree(folder)
    assert len(store.read(run_ids=["run-1"], tables=["steps"]).steps) == 4
    with pytest.raises(InputError, match=r"part\.parquet: is missing"):
        store.read(tables=["steps"])


def test_findings_of_some_runs(store: Store) -> None:
    """Given runs, when the findings of two are asked for, then a row comes for each that is there."""
    assert store.findings(["run-2", "nobody"])["run_id"].to_pylist() == ["run-2"]


def test_what_is_no_store_is_said(tmp_path: Path, store: Store) -> None:
    """Given a folder that is none, or a table that does not exist, when asked for, then a sentence says so."""
    with pytest.raises(InputError, match="is no store"):
        open_store(tmp_path)
    with pytest.raises(InputError, match="has no table 'stepps'"):
        store.read(tables=["stepps"])


def test_asking_whether_it_is_a_store_loads_nothing_heavy(store: Store) -> None:
    """Given a store, when a fresh interpreter asks whether it is one, then it answers without pyarrow."""
    code = "import sys; from gradience_analysis.store import is_store; print(is_store(sys.argv[1]), is_store('/'))\n"
    code += "print(sorted({'pyarrow', 'numpy', 'pandas', 'msgspec'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, store.path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "True False\n[]\n"
