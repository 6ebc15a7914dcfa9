"""Which files are read, in how many processes, and what happens with those that cannot be."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from gradience_analysis.errors import GradienceError, InputError, NoTelemetryError
from gradience_analysis.runs import load_runs
from gradience_analysis.runs.progress import Bar
from gradience_analysis.store import ingest
from gradience_analysis.workers.pool import ONE_PROCESS_BYTES, Pool, processors, workers_for
from tests.analysis.records import end, evaluation, start, train, write
from tests.cli.command import environment


def make(folder: Path, name: str, *, loss: float = 2.0) -> Path:
    """A finished run in a folder of its own."""
    place = folder / name
    place.mkdir(parents=True)
    lines = [start(run_id=name), *train([1, 2], run_id=name, loss=loss), evaluation(2, "val", run_id=name, loss=loss)]
    return write(place / "run.jsonl", [*lines, end(run_id=name)])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three runs, one of them deep."""
    for name in ("a", "b", "deep/er/c"):
        make(tmp_path / "out", name)
    return tmp_path / "out"


def test_each_way_to_name_runs(tree: Path) -> None:
    """Given files, a folder, a glob and a sequence of these, when loaded, then each gives its runs, each once."""
    assert load_runs(tree).run_ids == ["a", "b", "deep/er/c"]
    assert load_runs(str(tree / "a" / "run.jsonl")).run_ids == ["a"]
    assert load_runs(str(tree / "*" / "*.jsonl")).run_ids == ["a", "b"]
    assert load_runs(f"{tree}/**/run.jsonl").run_ids == ["a", "b", "deep/er/c"]
    assert load_runs([tree / "b", tree]).run_ids == ["b", "a", "deep/er/c"]
    assert list(load_runs(tree / "a")) == ["a"]


def test_gzip(tmp_path: Path) -> None:
    """Given a compressed run, when its folder is loaded, then it is read."""
    (tmp_path / "run.jsonl.gz").write_bytes(gzip.compress(make(tmp_path / "x", "a").read_bytes()))
    assert load_runs(tmp_path / "run.jsonl.gz").run_ids == ["a"]


def test_what_cannot_be_read_does_not_stop_the_rest(tree: Path) -> None:
    """Given a missing path, a fifo, data in the folder and an empty file, when loaded, then each is a failure."""
    os.mkfifo(tree / "pipe.jsonl")
    write(tree / "data.jsonl", [{"text": "a sample"}] * 3)
    write(tree / "empty.jsonl", [])
    named = write(tree.parent / "named.jsonl", ["oops"])
    runs = load_runs([tree, tree / "absent.jsonl", named])
    assert len(runs) == 3
    failed = {Path(error.path).name: error for error in runs.failures}
    assert failed.keys() == {"pipe.jsonl", "data.jsonl", "empty.jsonl", "absent.jsonl", "named.jsonl"}
    assert isinstance(failed["data.jsonl"], NoTelemetryError)
    assert isinstance(failed["named.jsonl"], NoTelemetryError)
    assert "line 1" in str(failed["named.jsonl"])
    assert str(failed["named.jsonl"]).count(str(named)) == 1
    assert "FIFO" in str(failed["pipe.jsonl"])
    assert "5 paths not read" in repr(runs)


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    """Given nothing that can be read, when loaded, then an InputError says why and how much there was."""
    with pytest.raises(InputError, match="does not exist"):
        load_runs(tmp_path / "absent")
    bad = [write(tmp_path / f"{name}.jsonl", ["oops"]) for name in "ab"]
    with pytest.raises(NoTelemetryError, match="None of 2 paths"):
        load_runs(bad)
    with pytest.raises(InputError, match="stdin"):
        load_runs("-")
    with pytest.raises(GradienceError, match="no path"):
        load_runs([])


def test_a_bad_line_costs_one_line(tmp_path: Path) -> None:
    """Given a run with a damaged line, when loaded, then it is there, and the issue names the line."""
    runs = load_runs(write(tmp_path / "run.jsonl", [start(), "oops", *train([1, 2])]))
    assert len(runs.steps) == 2
    assert runs.issues[runs.issues["severity"] == "error"]["line"].tolist() == [2]
    assert not runs.failures
    assert runs.runs["issues.error"].tolist() == [1]


def test_a_copy_is_not_a_second_segment(tree: Path) -> None:
    """Given a run and its copy elsewhere, when loaded, then the copy is left out, and an issue says so."""
    (tree / "backup").mkdir()
    (tree / "backup" / "run.jsonl.gz").write_bytes(gzip.compress((tree / "a/run.jsonl").read_bytes()))
    runs = load_runs(tree)
    alone = load_runs(tree / "a")
    assert runs.runs.iloc[0]["segments"] == 1
    assert runs.select(["a"]).steps.equals(alone.steps)
    assert runs.issues["code"].tolist() == ["duplicate_file"]
    assert runs.issues["path"].tolist() == [str(tree / "backup" / "run.jsonl.gz")]


def test_several_processes_read_the_same(tree: Path) -> None:
    """Given enough files for two batches, when read by two processes, then all is as with one, failures too."""
    for number in range(70):
        make(tree, f"more{number:02}", loss=3.0 + number)
    write(tree / "data.jsonl", [{"text": "a sample"}])
    one, two = (load_runs([tree, tree / "absent"], workers=workers, progress=False) for workers in (1, 2))
    assert len(two) == 73
    pd.testing.assert_frame_equal(one.runs, two.runs)
    pd.testing.assert_frame_equal(one.steps, two.steps)
    pd.testing.assert_frame_equal(one.evals, two.evals)
    assert [str(error) for error in one.failures] == [str(error) for error in two.failures]


def test_a_script_without_a_guard_is_not_run_again(tree: Path, tmp_path: Path) -> None:
    """Given a script that loads with two processes at its top level, when run, then it runs once."""
    for number in range(70):
        make(tree, f"more{number:02}")
    script = tmp_path / "script.py"
    load = "from gradience_analysis.runs import load_runs"
    script.write_text(f"{load}\nprint('once')\nprint(len(load_runs({str(tree)!r}, workers=2)))\n")
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=60, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["once", "73"]


def test_a_process_that_ends_early_is_an_error() -> None:
    """Given work that ends its process, when done by two, then the error says so and no process is left."""
    with pytest.raises(GradienceError, match="ended with exit code 7"), Pool(2) as pool:
        list(pool.results(os._exit, [7, 7]))


@pytest.mark.parametrize(
    ("batches", "size", "workers", "expected"),
    [
        (9, ONE_PROCESS_BYTES - 1, None, 1),
        (9, 2 * ONE_PROCESS_BYTES - 1, None, 1),
        (9, 2 * ONE_PROCESS_BYTES, None, min(2, processors())),
        (1, 100 * ONE_PROCESS_BYTES, None, 1),
        (9, 10, 4, 4),
        (2, 10, 4, 2),
        (0, 0, None, 1),
    ],
)
def test_the_rule_for_workers(batches: int, size: int, workers: int | None, expected: int) -> None:
    """Given an amount of work, when nothing or a number is asked for, then so many processes are used."""
    assert workers_for(batches, size, workers) == expected


def test_less_than_one_worker_is_an_error(tree: Path) -> None:
    """Given workers=0, when loaded, then the error says what is allowed."""
    with pytest.raises(GradienceError, match="1 or more"):
        load_runs(tree, workers=0)


def test_progress_is_told(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Given a function, when loaded, then it is called with what is done; nothing is written without a terminal."""
    told: list[tuple[int, int]] = []
    load_runs(tree, progress=lambda done, total: told.append((done, total)))
    load_runs(tree)
    assert told == [(1, 1)]
    assert capsys.readouterr() == ("", "")


def test_the_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Given work beyond the delay, when it advances, then the bar shows how far, and goes away at the end."""
    monkeypatch.setattr("gradience_analysis.runs.progress.DELAY_S", -1.0)
    bar = Bar("reading runs", True)
    bar.advance(10, 40)
    shown = capsys.readouterr().err
    assert "10 of 40" in shown
    assert "reading runs" in shown
    bar.advance(40, 40)
    assert capsys.readouterr().err == "\r\x1b[2K"


def test_a_store_gives_the_same_runs(tree: Path, tmp_path: Path) -> None:
    """Given runs in a store, when loaded, then the frames are those of the files, but for the absolute paths."""
    ingest([tree], tmp_path / "store")
    files, store = load_runs(tree), load_runs(tmp_path / "store")
    pd.testing.assert_frame_equal(files.runs, store.runs)
    pd.testing.assert_frame_equal(files.steps, store.steps)
    pd.testing.assert_frame_equal(files.evals, store.evals)
    pd.testing.assert_frame_equal(files.curve("loss"), store.curve("loss"))
    pd.testing.assert_frame_equal(files.query("steps == 2").select(["b"]).steps, store.select(["b"]).steps)


def test_a_store_and_files_together(tree: Path, tmp_path: Path) -> None:
    """Given a store and a folder that holds one run of it and one more, when loaded, then each run is there once."""
    ingest([tree], tmp_path / "store")
    make(tmp_path / "new", "d")
    runs = load_runs([tree / "a", tmp_path / "new", tmp_path / "store"])
    assert sorted(runs.run_ids) == ["a", "b", "d", "deep/er/c"]
    assert runs.runs["segments"].tolist() == [1] * 4
    assert len(runs.steps) == 8
    assert runs.runs["findings.error"].notna().all()


def test_a_run_of_another_tool(tmp_path: Path) -> None:
    """Given a log that an importer knows, when loaded by its path, then it is a run without a start time."""
    folder = Path(__file__).parents[3] / "fixtures" / "foreign" / "transformers" / "trained"
    runs = load_runs(folder / "trainer_state.json")
    assert runs.runs["name"].tolist() == ["trained"]
    assert runs.runs["started"].isna().all()
    assert runs.runs["duration_s"].isna().all()
    assert runs.steps["loss"].notna().any()
