"""`gradience ingest` as users run it: what it says, what it writes, exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.reports.ingest import SCHEMA
from gradience_analysis.store import open_store
from gradience_analysis.store.swap import only_writer
from tests.analysis.store.trees import grown, run_file
from tests.cli.command import gradience


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder, with two runs, a run with a bad line, a file without an event, and one in UTF-16."""
    monkeypatch.chdir(tmp_path)
    run_file(Path("good/a/run.jsonl"), "run-a")
    run_file(Path("good/b/run.jsonl"), "run-b")
    bad = run_file(Path("bad/run.jsonl"), "run-c")
    bad.write_bytes(bad.read_bytes() + b'{"oops\n')
    Path("empty.jsonl").write_text("", encoding="utf-8")
    Path("utf16.jsonl").write_text("{}", encoding="utf-16")


@pytest.mark.parametrize(
    ("paths", "code"),
    [
        ("good", 0),
        ("good/*/run.jsonl", 0),
        ("good bad", 1),
        ("empty.jsonl", 1),
        ("good utf16.jsonl", 2),
        ("good missing", 2),
        ("missing", 2),
        ("-", 2),
    ],
)
def test_exit_codes(paths: str, code: int) -> None:
    """Given paths, when ingested, then 0 is clean, 1 is lines refused or no event, 2 is something that was not read."""
    done = gradience("ingest", *paths.split(), "--store", "s")
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert bool(done.stderr) == (code == 2)


def test_the_text_says_what_was_done(tmp_path: Path) -> None:
    """Given new, then changed, then gone files, when ingested, then each time the counts say so."""
    assert "new 2" in gradience("ingest", "good", "--store", "s").stdout
    again = gradience("ingest", "good", "--store", "s").stdout
    assert "nothing has changed" in again
    assert "unchanged 2" in again
    grown(Path("good/a/run.jsonl"), "run-a", 50)
    assert "changed 1" in gradience("ingest", "good", "--store", "s").stdout
    Path("good/b/run.jsonl").unlink()
    gone = gradience("ingest", "good", "--store", "s").stdout
    assert "gone 1" in gone
    assert "--prune" in gone
    assert "dropped 1" in gradience("ingest", "good", "--store", "s", "--prune").stdout
    assert open_store(tmp_path / "s").run_ids() == ["run-a"]


def data(*arguments: str) -> dict[str, Any]:
    """The JSON document of an ingest."""
    document: dict[str, Any] = json.loads(gradience("ingest", *arguments, "--json").stdout)
    return document


def test_the_document_has_the_same_in_numbers() -> None:
    """Given a bad line and a file that cannot be read, when asked for JSON, then both are in it, with a schema id."""
    document = data("good", "bad", "utf16.jsonl", "--store", "s")
    assert document["schema"] == SCHEMA
    assert (document["runs"], document["rows"]["bad_lines"], document["rows"]["steps"]) == (3, 1, 15)
    assert [Path(path).parts[-2:] for path in document["new"]] == [
        ("bad", "run.jsonl"),
        ("a", "run.jsonl"),
        ("b", "run.jsonl"),
    ]
    assert len(document["files_refusing"]) == 1
    assert "UTF-16" in document["unread"][0]["message"]
    assert (data("good", "--store", "s")["written"], data("good", "--store", "s", "--rebuild")["again"] != []) == (
        0,
        True,
    )


def test_output_goes_to_a_file_or_nowhere() -> None:
    """Given --output or --quiet, when ingested, then stdout stays empty, and the file has the report."""
    assert gradience("ingest", "good", "--store", "s", "--quiet").stdout == ""
    assert gradience("ingest", "good", "--store", "s", "-o", "report.txt").stdout == ""
    assert "2 runs" in Path("report.txt").read_text(encoding="utf-8")


def test_damage_is_named_and_made_good() -> None:
    """Given a damaged file in a store, when ingested, then it is named, and nothing else is lost."""
    gradience("ingest", "good", "--store", "s")
    part = next(Path("s/steps").rglob("part.parquet"))
    part.write_bytes(b"PAR1")
    done = gradience("ingest", "good", "--store", "s")
    assert done.returncode == 0
    assert f"{part.relative_to('s').as_posix()}.damaged" in done.stdout
    assert len(open_store("s").read().steps) == 10


def test_a_store_in_use_is_one_sentence(tmp_path: Path) -> None:
    """Given a store that another ingest holds, when ingested, then one sentence says so and the exit code is 2."""
    gradience("ingest", "good", "--store", "s")
    with only_writer(tmp_path / "s"):
        done = gradience("ingest", "good", "--store", "s")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gradience: s: is being written to by another ingest. Try again when that has ended.\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_one_sentence(tmp_path: Path) -> None:
    """Given a store in a folder without write permission, when ingested, then one sentence says so."""
    (tmp_path / "closed").mkdir(mode=0o500)
    done = gradience("ingest", "good", "--store", "closed/s")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
