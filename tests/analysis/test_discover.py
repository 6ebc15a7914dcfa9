"""Which runs a path stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradience_analysis.errors import InputError, NoTelemetryError
from gradience_analysis.telemetry.assemble import load_run
from gradience_analysis.telemetry.discover import Found, discover
from tests.analysis.records import end, start, train, write


def run(path: Path, run_id: str, ts: float = 0.0) -> Path:
    """A short run in a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(
        path, [start(run_id=run_id, ts=ts), *train([1, 2], run_id=run_id, ts=ts), end(run_id=run_id, ts=ts + 9)]
    )


def test_a_file_is_one_run(tmp_path: Path) -> None:
    """Given a file, when looked at, then it stands for itself."""
    path = run(tmp_path / "run.jsonl", "a")
    assert discover(path) == [Found(str(path), None)]


def test_a_folder_with_one_run_stands_for_it(tmp_path: Path) -> None:
    """Given a folder with the segments of one run, when looked at, then the folder is that run."""
    run(tmp_path / "run.jsonl", "a")
    run(tmp_path / "run.1.jsonl", "a", ts=20.0)
    assert discover(tmp_path) == [Found(str(tmp_path), None)]


def test_a_folder_with_several_runs_stands_for_each(tmp_path: Path) -> None:
    """Given a folder with files of two runs, when looked at and loaded, then both come."""
    run(tmp_path / "a.jsonl", "a")
    run(tmp_path / "b.jsonl", "b", ts=50.0)
    found = discover(tmp_path)
    assert [one.run_id for one in found] == ["a", "b"]
    assert [load_run(one.path, run_id=one.run_id).run_id for one in found] == ["a", "b"]


def test_runs_below_a_folder_are_found(tmp_path: Path) -> None:
    """Given folders of runs beside files of other kinds, when looked at, then each run is one, in order."""
    run(tmp_path / "x" / "run.jsonl", "a")
    run(tmp_path / "y" / "deep" / "run.jsonl", "b")
    (tmp_path / "data.jsonl").write_text('{"text": "hello"}\n')
    assert discover(tmp_path) == [Found(str(tmp_path / "x"), None), Found(str(tmp_path / "y" / "deep"), None)]


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    """Given a folder without telemetry, when looked at, then the error is that of the folder."""
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(NoTelemetryError, match=r"holds no \.jsonl file"):
        discover(tmp_path)


def test_a_run_can_be_loaded_by_its_id(tmp_path: Path) -> None:
    """Given a file in which a second run was appended, when each is asked for, then each is given."""
    path = write(tmp_path / "run.jsonl", [start(run_id="a"), *train([1, 2], run_id="a"), end(run_id="a", ts=5.0)])
    with path.open("ab") as file:
        file.write(run(tmp_path / "other" / "run.jsonl", "b", ts=100.0).read_bytes())
    assert load_run(path).run_id == "b"
    assert load_run(path, run_id="a").run_id == "a"
    with pytest.raises(InputError, match="holds no run 'c'"):
        load_run(path, run_id="c")
