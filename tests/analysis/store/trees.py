"""Folders of runs to ingest, and what a store made from them has to hold; nothing here comes from the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gradience_analysis.tables.bundle import Tables
from gradience_analysis.tables.layout import SCHEMAS
from gradience_analysis.tables.read_file import read_file
from tests.analysis.records import end, evaluation, numbered, record, start, train, write


def run_file(path: Path, run_id: str = "run-1", *, steps: int = 5, ended: bool = True, **extra: Any) -> Path:
    """A run with so many steps, an evaluation, and these further values in each step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [start(run_id=run_id)]
    records += [{**item, **extra} for item in train(range(1, steps + 1), run_id=run_id)]
    records.append(evaluation(steps, "eval", run_id=run_id, loss=2.25, exact_match=0.5, n=64))
    if ended:
        records.append(end(run_id=run_id))
    return write(path, numbered(records))


def some_runs(folder: Path, number: int = 3) -> list[Path]:
    """Runs in folders of their own, with one bad line in the last."""
    paths = [run_file(folder / f"r{index}" / "run.jsonl", f"run-{index}", steps=3 + index) for index in range(number)]
    with paths[-1].open("ab") as file:
        file.write(b'{"oops\n')
    return paths


def grown(path: Path, run_id: str, step: int, **fields: Any) -> None:
    """The file with one more step at its end."""
    more = write(path.with_suffix(".more"), [record("train_step", step, ts=2000.0 + step, run_id=run_id, **fields)])
    with path.open("ab") as file:
        file.write(more.read_bytes())
    more.unlink()


def expected(paths: list[Path]) -> Tables:
    """The tables of these files, in order of their paths."""
    return Tables.concat([read_file(path, bad_lines=True) for path in sorted(paths)])


def rows(tables: Tables) -> dict[str, tuple[str, list[dict[str, Any]]]]:
    """Columns with their types, and rows of every table, so that a failure shows what differs; NaN equals NaN."""
    return {name: (str(getattr(tables, name).schema), _comparable(getattr(tables, name))) for name in SCHEMAS}


def _comparable(table: Any) -> list[dict[str, Any]]:
    return [
        {key: repr(value) if isinstance(value, float) else value for key, value in row.items()}
        for row in table.to_pylist()
    ]


def contents(root: Path) -> dict[str, bytes]:
    """Every file of a store that holds data, by name, with its bytes."""
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if not name.endswith("lock")}
