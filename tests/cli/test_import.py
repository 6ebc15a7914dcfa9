"""`gradience import`: what it writes is strict telemetry/v1, and what was there stays."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis import load_run, validate
from tests.analysis.importers.foreign import LOGS, jsonl, read, record
from tests.analysis.records import healthy_run, write
from tests.cli.command import gradience

ROW = {"current_steps": 1, "total_steps": 9, "loss": 1.0}


def lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file by a parser that takes no NaN."""

    def refuse(token: str) -> None:
        raise AssertionError(token)

    return [json.loads(line, parse_constant=refuse) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("path", LOGS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_is_written_is_what_was_read(path: Path, tmp_path: Path) -> None:
    """Given a real log, when it is imported, then the files hold its events as strict JSON, and validate strictly."""
    done = gradience("import", path, "--out", tmp_path / "run.jsonl")
    assert done.returncode == 0, done.stderr
    files = sorted(tmp_path.iterdir(), key=lambda file: (len(file.name), file.name))
    assert [line for file in files for line in lines(file)] == [record(event) for event in read(path)[0]]
    for file in files:
        checked = validate(file, strict=True)
        assert not checked.issues
        assert [line["seq"] for line in lines(file)] == list(range(len(lines(file))))


def test_the_segments_are_one_run(tmp_path: Path) -> None:
    """Given a log with a rerun appended, when it is imported, then two files are one run in which the rerun wins."""
    path = next(path for path in LOGS if path.parent.name == "appended")
    done = gradience("import", path, "--out", tmp_path / "run.jsonl", "--json")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.1.jsonl", "run.jsonl"]
    run = load_run(tmp_path / "run.jsonl")
    assert [step for step, _ in run.series("loss")] == list(range(2, 21, 2))
    assert len(run.segments) == 2
    report = json.loads(done.stdout)
    assert [(Path(file["path"]).name, file["records"]) for file in report["files"]] == [
        (name, len(lines(tmp_path / name))) for name in ("run.jsonl", "run.1.jsonl")
    ]


def test_the_hidden_nan_is_on_record(tmp_path: Path) -> None:
    """Given a state with a hidden NaN, when it is imported, then the file holds NaN, and the report says so."""
    path = next(path for path in LOGS if path.parent.name == "hidden_nan")
    done = gradience("import", path, "--out", tmp_path / "run.jsonl", "--json")
    report = json.loads(done.stdout)
    assert report["schema"] == "gradience.import/v1"
    assert {"code": "hidden_nonfinite_loss", "severity": "warning", "count": 4} in report["issue_counts"]
    losses = [loss for _, loss in load_run(tmp_path / "run.jsonl").series("loss")]
    assert sum(map(math.isnan, losses)) == 4
    assert sum(line.get("nonfinite", {}).get("/loss") == "nan" for line in lines(tmp_path / "run.jsonl")) == 4


def test_rows_that_are_left_out_are_exit_one(tmp_path: Path) -> None:
    """Given a log with a bad line, when it is imported, then the rest is written, and the exit code and text say so."""
    log = jsonl(tmp_path / "t.jsonl", [ROW, "oops"])
    done = gradience("import", log, "--out", tmp_path / "run.jsonl")
    assert done.returncode == 1
    assert "2 records written; 1 row of the log could not be read." in done.stdout
    assert [line["event"] for line in lines(tmp_path / "run.jsonl")] == ["run_start", "train_step"]


def test_a_file_that_exists_stays(tmp_path: Path) -> None:
    """Given a target that exists, when a log is imported, then it stays as it is, unless --force is given."""
    log, out = jsonl(tmp_path / "t.jsonl", [ROW]), tmp_path / "run.jsonl"
    out.write_text("mine")
    refused = gradience("import", log, "--out", out)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "exists already" in refused.stderr
    assert out.read_text() == "mine"
    assert gradience("import", log, "--out", out, "--force").returncode == 0
    assert len(lines(out)) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.jsonl", "t.jsonl"]


def test_a_later_segment_that_exists_stays_too(tmp_path: Path) -> None:
    """Given a target of the second segment that exists, when a log is imported, then no file is written at all."""
    log = jsonl(tmp_path / "t.jsonl", [ROW | {"current_steps": step} for step in (5, 1)])
    (tmp_path / "run.1.jsonl").write_text("mine")
    assert gradience("import", log, "--out", tmp_path / "run.jsonl").returncode == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.1.jsonl", "t.jsonl"]
    assert (tmp_path / "run.1.jsonl").read_text() == "mine"


def test_segments_of_an_earlier_import_do_not_join_a_new_one(tmp_path: Path) -> None:
    """Given a log imported with two segments and then with one, when --force is given, then the second file is gone."""
    log, out = tmp_path / "t.jsonl", tmp_path / "run.jsonl"
    jsonl(log, [ROW | {"current_steps": step} for step in (5, 1)])
    assert gradience("import", log, "--out", out).returncode == 0
    other = write(tmp_path / "run.7.jsonl", healthy_run())
    jsonl(log, [ROW])
    assert gradience("import", log, "--out", out, "--force").returncode == 0
    assert sorted(file.name for file in tmp_path.glob("run*")) == ["run.7.jsonl", "run.jsonl"]
    assert lines(other)[0]["run_id"] == "run-1"


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    """Given a log that is refused half-way, when it is imported, then neither a file nor a part of one is there."""
    packed = gzip.compress(b'{"log_history": []}')
    (tmp_path / "s.json").write_bytes(packed[:-6])
    done = gradience("import", tmp_path / "s.json", "--from", "hf-trainer-state", "--out", tmp_path / "run.jsonl")
    assert done.returncode == 2
    assert "cut off" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["s.json"]


def test_a_record_over_the_cap_is_left_out_and_reported(tmp_path: Path) -> None:
    """Given a state with a row of more than 1 MiB, when imported, then that row is an error, and seq has no gap."""
    rows = [{"loss": 1.0, "step": 1}, {"loss": 2.0, "step": 2, "text": "x" * (1 << 20)}, {"loss": 3.0, "step": 3}]
    (tmp_path / "s.json").write_text(json.dumps({"log_history": rows}))
    done = gradience("import", tmp_path / "s.json", "--out", tmp_path / "run.jsonl", "--json")
    assert done.returncode == 1
    assert [issue["code"] for issue in json.loads(done.stdout)["issues"]] == ["no_timestamps", "line_too_long"]
    assert [line["step"] for line in lines(tmp_path / "run.jsonl")] == [None, 1, 3]
    assert validate(tmp_path / "run.jsonl", strict=True).ok


def test_secrets_do_not_come_through(tmp_path: Path) -> None:
    """Given a row that holds a token, when it is imported, then the file does not hold it."""
    token = "hf_" + "aB3" * 12
    log = jsonl(tmp_path / "t.jsonl", [ROW | {"note": f"login with {token}", "api_key": "abc"}])
    assert gradience("import", log, "--out", tmp_path / "run.jsonl").returncode == 0
    text = (tmp_path / "run.jsonl").read_text()
    assert token not in text
    assert '"abc"' not in text


TABLE = [
    ("absent.jsonl --out run.jsonl", "does not exist"),
    (". --out run.jsonl", "is a directory"),
    ("- --out run.jsonl", "standard input"),
    ("good.jsonl --out run.json", "ends in .jsonl"),
    ("good.jsonl --out good.jsonl --force", "is the log itself"),
    ("good.jsonl --out nowhere/run.jsonl", "cannot be written"),
    ("good.jsonl --out run.jsonl --from nope", "Formats: hf-trainer-state, llama-factory"),
    ("good.jsonl --out run.jsonl --from lightning-csv", "does not name a column step"),
    ("good.jsonl --out run.jsonl --format html", "no format"),
    ("back.jsonl --out run.3.jsonl", "several segments"),
    ("v1.jsonl --out run.jsonl", "telemetry/v1 already"),
    ("text.txt --out run.jsonl", "no format that can be imported"),
    ("good.jsonl", "--out"),
]


@pytest.mark.parametrize(("command", "sentence"), TABLE, ids=[command for command, _ in TABLE])
def test_what_cannot_be_done_is_said_in_a_sentence(
    command: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a command line that cannot be followed, when it is run, then exit code 2, a sentence, and no file."""
    monkeypatch.chdir(tmp_path)
    jsonl(tmp_path / "good.jsonl", [ROW])
    jsonl(tmp_path / "back.jsonl", [ROW | {"current_steps": step} for step in (5, 1)])
    write(tmp_path / "v1.jsonl", healthy_run())
    (tmp_path / "text.txt").write_text("hello\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    done = gradience("import", *command.split())
    assert done.returncode == 2
    assert sentence in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_quiet_writes_the_file_and_nothing_else(tmp_path: Path) -> None:
    """Given --quiet, when a log is imported, then both streams stay empty."""
    log = jsonl(tmp_path / "t.jsonl", [ROW])
    done = gradience("import", log, "--out", tmp_path / "run.jsonl", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(lines(tmp_path / "run.jsonl")) == 2
