"""`gradience runs` as users run it: formats, conditions, order, widths, what cannot be read, exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.runs import load_runs
from gradience_analysis.store import ingest
from tests.analysis.records import end, record, start, write
from tests.cli.command import environment, gradience

SWEEP = Path(__file__).parents[2] / "fixtures" / "sweep"
RECORDED = Path(__file__).parents[2] / "fixtures" / "runs"


def lines_of(name: str) -> list[dict[str, Any]]:
    """The run of the sweep with this name, by json.loads."""
    return [json.loads(line) for line in (SWEEP / name / "run.jsonl").read_text().splitlines()]


def test_json_has_every_number_in_full() -> None:
    """Given a sweep, when shown as JSON, then there is a row a run, and its numbers are those of the file."""
    result = gradience("runs", SWEEP, "--json")
    assert result.returncode == 0
    data = json.loads(result.stdout)
    assert data["schema"] == "gradience.runs/v1"
    assert data["total"] == len(data["runs"]) == 24
    assert data["failures"] == []
    for row in data["runs"]:
        assert list(row) == data["columns"]
        lines = lines_of(row["name"])
        losses = [line["metrics"]["loss"] for line in lines if line["event"] == "eval" and line["split"] == "val"]
        assert row["val.loss.final"] == losses[-1]
        assert row["val.loss.best"] == min(losses)
        assert row["optimizer.lr"] == lines[0]["config"]["optimizer"]["lr"]
        assert row["started"].endswith("+00:00")


def test_csv_is_read_back_exactly() -> None:
    """Given columns, when shown as CSV, then they are there in that order, absent values empty, numbers in full."""
    columns = "name,val.loss.best,reason,lora.r,findings.warning,lora.target_modules"
    result = gradience("runs", SWEEP, "--format", "csv", "--columns", columns)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert result.stdout.splitlines()[0] == columns
    assert len(rows) == 24
    for row in rows:
        lines = lines_of(row["name"])
        losses = [line["metrics"]["loss"] for line in lines if line["event"] == "eval" and line["split"] == "val"]
        assert float(row["val.loss.best"]) == min(losses)
        assert row["reason"] == ""
        assert row["lora.r"] == str(lines[0]["config"]["lora"]["r"])
        assert json.loads(row["lora.target_modules"]) == lines[0]["config"]["lora"]["target_modules"]


def test_a_condition_an_order_and_a_limit() -> None:
    """Given --where, --sort and --limit, when shown, then the best runs that fulfil it are there, in order."""
    options = ("--where", "lora.r == 8 and optimizer.lr < 2e-2", "--sort", "val.loss.best", "--limit", "2")
    shown = json.loads(gradience("runs", SWEEP, *options, "--json").stdout)
    every = [run for run in json.loads(gradience("runs", SWEEP, "--json").stdout)["runs"] if run["lora.r"] == 8]
    every = [run for run in every if run["optimizer.lr"] < 2e-2]
    assert [run["name"] for run in shown["runs"]] == [
        run["name"] for run in sorted(every, key=lambda run: run["val.loss.best"])[:2]
    ]
    assert shown["total"] == 24
    backwards = gradience("runs", SWEEP, "--sort", "-val.loss.best", "--format", "csv", "--columns", "val.loss.best")
    values = [float(value) for value in backwards.stdout.splitlines()[1:]]
    assert values == sorted(values, reverse=True)


def test_absent_values_come_last_either_way(tmp_path: Path) -> None:
    """Given runs without a value, and one with NaN, when sorted, then numbers come first, absent values last."""
    for name, loss in (("a", None), ("b", 2.0), ("c", "nan"), ("d", 1.0)):
        lines = [start(run_id=name)]
        if loss == "nan":
            lines.append(record("train_step", 1, run_id=name, loss=None, nonfinite={"/loss": "nan"}))
        elif loss is not None:
            lines.append(record("train_step", 1, run_id=name, loss=loss))
        write(tmp_path / f"{name}.jsonl", [*lines, end(run_id=name)])

    def order(sort: str) -> list[str]:
        return gradience("runs", tmp_path, "--sort", sort, "--format", "csv", "--columns", "name").stdout.split()[1:]

    assert order("loss.final") == ["d", "b", "c", "a"]
    assert order("-loss.final") == ["b", "d", "c", "a"]
    data = json.loads(gradience("runs", tmp_path, "--sort", "loss.final", "--json").stdout)
    assert data["nonfinite"] == {"/runs/2/loss.final": "nan"}
    assert data["runs"][2]["loss.final"] is data["runs"][3]["loss.final"] is None


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 160, 250])
def test_the_table_fits_the_screen(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a screen of any width, when shown, then no line is wider, each run has one row, and nothing is hidden."""
    monkeypatch.setenv("COLUMNS", str(width))
    result = gradience("runs", SWEEP, RECORDED, "--sort", "gap")
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= width
    assert sum("r32_lr0.003_s2" in line for line in lines) == 1
    flat = " ".join(result.stdout.split())
    for words in ("29 runs: 27 ok, 1 aborted, 1 error", "val.loss.best", "gap", "findings.error", "training.seed"):
        assert words in flat


def test_columns_that_are_too_wide_are_stacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given columns that were asked for on a narrow screen, when shown, then all are there, below each other."""
    monkeypatch.setenv("COLUMNS", "40")
    result = gradience("runs", RECORDED, "--columns", "name,status,val.loss.best,optimizer.lr,path", "--limit", "1")
    flat = " ".join(result.stdout.split())
    assert max(map(len, result.stdout.splitlines())) <= 40
    for word in ("healthy", "status ok", "val.loss.best 2.141", "optimizer.lr 0.005"):
        assert word in flat


TABLE = [
    ("runs {sweep}", 0),
    ("runs {sweep} --quiet", 0),
    ("runs {sweep}/r8*/run.jsonl", 0),
    ("runs {sweep} --where lora.r==7", 0),
    ("runs {sweep} --limit 0", 0),
    ("runs {mixed}", 0),
    ("runs {sweep} {mixed}/data.jsonl", 2),
    ("runs {sweep} absent", 2),
    ("runs absent", 2),
    ("runs {sweep} --where lora.rank==8", 2),
    ("runs {sweep} --where lora.r=8", 2),
    ("runs {sweep} --where __import__('os')", 2),
    ("runs {sweep} --columns name,los", 2),
    ("runs {sweep} --sort los", 2),
    ("runs {sweep} --limit -1", 2),
    ("runs {sweep} --workers 0", 2),
    ("runs {sweep} --format html", 2),
    ("runs", 2),
]


@pytest.mark.parametrize(("line", "code"), TABLE)
def test_exit_codes(line: str, code: int, tmp_path: Path) -> None:
    """Given paths and options of each kind, when run, then the exit code is as documented, with a word when it is 2."""
    write(tmp_path / "run.jsonl", [start(), end()])
    write(tmp_path / "data.jsonl", [{"text": "a sample"}])
    result = gradience(*line.format(sweep=SWEEP, mixed=tmp_path).split())
    assert result.returncode == code, result.stderr
    assert bool(result.stderr) == (code == 2 or "{mixed}" in line)


def test_a_mistyped_column_is_named_with_the_one_that_was_meant() -> None:
    """Given a column that is not there, when asked for anywhere, then the sentence names the one that was meant."""
    for option in (("--where", "lora.rank == 8"), ("--sort", "lora.rank"), ("--columns", "name,lora.rank")):
        result = gradience("runs", SWEEP, *option)
        assert "'lora.rank'" in result.stderr
        assert "Did you mean lora.r" in result.stderr
        assert result.stdout == ""


def test_to_a_file(tmp_path: Path) -> None:
    """Given --output, when run in each format, then the file has the report, and stdout nothing."""
    for name, first in (("text", "OK"), ("csv", "run_id,"), ("json", "{")):
        path = tmp_path / name
        result = gradience("runs", SWEEP, "--format", name, "--output", path)
        assert result.stdout == ""
        assert path.read_text().startswith(first)
    assert gradience("runs", SWEEP, "--format", "csv", "--output", tmp_path / "no" / "folder").returncode == 2


def test_a_store(tmp_path: Path) -> None:
    """Given a store, when shown, then it is as its files are, but for their absolute paths."""
    ingest([SWEEP], tmp_path / "store")
    store, files = (json.loads(gradience("runs", path, "--json").stdout) for path in (tmp_path / "store", SWEEP))
    assert store == files


def test_nothing_from_a_file_steers_the_terminal(tmp_path: Path) -> None:
    """Given names and settings with control characters, when shown in a terminal, then they are spelled out."""
    lines = [record("run_start", config={"model_name": "\x1b]0;evil\x07"}), end()]
    write(tmp_path / "run.jsonl", lines)
    for name in ("text", "csv", "json"):
        shown = in_terminal("runs", str(tmp_path), "--format", name, "--columns", "name,model_name")
        assert b"evil" in shown
        assert b"\x1b]0" not in shown
        assert b"\x07" not in shown
    assert "\x1b]0;evil" in gradience("runs", tmp_path, "--format", "csv").stdout


def in_terminal(*arguments: str) -> bytes:
    """What `gradience ARGUMENTS` writes to a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gradience_cli", *arguments],
        stdout=slave,
        stderr=slave,
        stdin=subprocess.DEVNULL,
        env=environment(TERM="xterm"),
    )
    os.close(slave)
    found = b""
    while process.poll() is None or select.select([master], [], [], 0.2)[0]:
        if select.select([master], [], [], 0.2)[0]:
            try:
                found += os.read(master, 1 << 16)
            except OSError:
                break
    process.wait(timeout=60)
    os.close(master)
    return found


def test_the_look_agrees_with_the_frame() -> None:
    """Given a sweep, when shown as text, then each row has the name and the rounded numbers of the frame."""
    text = gradience("runs", SWEEP, "--columns", "name,lora.r,val.loss.best").stdout
    frame = load_runs(SWEEP).runs
    for name, rank, loss in zip(frame["name"], frame["lora.r"], frame["val.loss.best"], strict=True):
        assert any(line.split() == [name, str(rank), f"{loss:.4g}"] for line in text.splitlines())
