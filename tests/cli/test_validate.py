"""`gradience validate` as users and their CI run it: paths, formats, rules, what cannot be read, exit codes."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from gradience_analysis.telemetry.cross_line import CROSS_LINE_CODES
from gradience_cli.commands.validate import FORMATS
from gradience_cli.progress import Progress
from tests.analysis.records import end, evaluation, healthy_run, numbered, start, train, write
from tests.cli.command import environment, gradience

DAMAGED = [start(), *[b"oops"] * 12, *train([1]), end()]
WARNED = [start(), *train([2, 3]), *train([1], ts=9.0), end()]


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a tree of files in it."""
    for name in ("good/a", "good/b", "mixed", "bare"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    write(Path("good/a/run.jsonl"), healthy_run())
    Path("good/b/run.jsonl.gz").write_bytes(gzip.compress(Path("good/a/run.jsonl").read_bytes()))
    write(Path("mixed/damaged.jsonl"), DAMAGED)
    write(Path("mixed/warned.jsonl"), WARNED)
    write(Path("empty.jsonl"), [])
    Path("utf16.jsonl").write_text("{}", encoding="utf-16")
    os.mkfifo("fifo.jsonl")
    return tmp_path


TABLE = [
    ("good", 0),
    ("good/a/run.jsonl good/b/run.jsonl.gz", 0),
    ("good/*/*.jsonl*", 0),
    ("**/run.jsonl", 0),
    ("mixed/warned.jsonl", 0),
    ("mixed/warned.jsonl --strict", 1),
    ("mixed/warned.jsonl --strict --skip-rule step_backwards", 0),
    ("mixed/warned.jsonl --strict --skip-rule seq_gap", 1),
    ("mixed/warned.jsonl --strict --skip-rule seq_gap --skip-rule step_backwards", 0),
    ("mixed/warned.jsonl --strict --no-cross-line", 0),
    ("mixed", 1),
    ("good mixed", 1),
    ("empty.jsonl", 1),
    ("good empty.jsonl", 1),
    ("bare", 2),
    ("good bare", 2),
    ("absent.jsonl", 2),
    ("good/*.csv", 2),
    ("good fifo.jsonl", 2),
    ("mixed utf16.jsonl", 2),
    (".", 2),
    ("good --skip-rule seq_gpa", 2),
    ("good --skip-rule invalid_json", 2),
    ("good --max-issues -1", 2),
    ("good --format html", 2),
    ("good --format github --quiet", 0),
]


@pytest.mark.parametrize(("line", "code"), TABLE)
def test_exit_code(line: str, code: int) -> None:
    """Given paths of each kind, when validated, then the exit code is as documented, with a word when it is 2."""
    result = gradience("validate", *line.split())
    assert result.returncode == code, result.stderr
    assert bool(result.stderr) == (code == 2)


@pytest.mark.parametrize("name", ["fmt", *FORMATS])
@pytest.mark.parametrize(("line", "code"), [("good", 0), ("mixed", 1), ("mixed absent.jsonl", 2), ("absent.jsonl", 2)])
def test_no_format_changes_the_exit_code(name: str, line: str, code: int) -> None:
    """Given each format, when the same paths are validated, then the exit code is the same; no such format is 2."""
    assert gradience("validate", *line.split(), "--format", name).returncode == (2 if name == "fmt" else code)


def data_of(*arguments: str) -> Any:
    """The JSON artifact of a command line."""
    return json.loads(gradience("validate", *arguments, "--json").stdout)


def test_files_that_cannot_be_read_hide_no_other() -> None:
    """Given two unreadable paths among others, when validated, then all others are reported and both are named."""
    result = gradience("validate", "absent.jsonl", "mixed", "utf16.jsonl", "good", "--json")
    data = json.loads(result.stdout)
    assert [file["path"] for file in data["files"]] == [
        "mixed/damaged.jsonl", "mixed/warned.jsonl", "good/a/run.jsonl", "good/b/run.jsonl.gz",
    ]  # fmt: skip
    assert [one["path"] for one in data["unreadable"]] == ["absent.jsonl", "utf16.jsonl"]
    assert data["ok"] is False
    assert len(result.stderr.splitlines()) == 2
    assert data["verdict"]["text"].endswith("in 1 of 4 files. 2 files could not be read.")


def test_nothing_readable_still_gives_a_program_its_document() -> None:
    """Given only an absent path, when validated, then JSON says so; a person gets the complaint alone."""
    assert data_of("absent.jsonl")["unreadable"][0]["message"] == "absent.jsonl: does not exist. Check the path."
    assert gradience("validate", "absent.jsonl").stdout == ""
    gradience("validate", "mixed", "absent.jsonl", "--output", "report.txt")
    assert "absent.jsonl: does not exist." in Path("report.txt").read_text()


def test_issues_are_grouped_by_code_over_all_files() -> None:
    """Given two damaged files, when validated, then a code comes once, with its count, files, and examples of both."""
    write(Path("mixed/other.jsonl"), [start(), b"oops", *train([1]), end()])
    text = gradience("validate", "mixed").stdout
    assert text.count("invalid_json") == 1
    assert "invalid_json: 13 times in 2 files" in text
    assert text.count("mixed/damaged.jsonl: line ") == 4
    assert text.count("mixed/other.jsonl: line 2") == 1
    assert "and 8 more" in text
    counts = data_of("mixed")["issue_counts"]
    assert counts[0] == {"code": "invalid_json", "severity": "error", "count": 13, "files": 2}


@pytest.mark.parametrize(("option", "shown"), [([], 5), (["--max-issues", "2"], 2), (["--max-issues", "0"], 0)])
def test_examples_are_capped_and_all_are_counted(option: list[str], shown: int) -> None:
    """Given 12 issues of a code, when --max-issues is given or not, then so many are shown and 12 counted."""
    text = gradience("validate", "mixed/damaged.jsonl", *option).stdout
    assert text.count("is not JSON") == shown
    assert "invalid_json: 12 times" in text
    (file,) = data_of("mixed/damaged.jsonl", *option)["files"]
    assert len(file["issues"]) == (12 if not option else shown)
    assert file["errors"] == 12


def test_the_summary_has_a_row_for_each_file() -> None:
    """Given three files, when validated, then each has its lines, records, errors and warnings in one row."""
    rows = {
        line.split()[0]: line.split()[1:]
        for line in gradience("validate", "mixed", "good/a").stdout.splitlines()
        if ".jsonl " in line
    }
    assert rows["mixed/damaged.jsonl"] == ["15", "3", "12"]
    assert rows["mixed/warned.jsonl"] == ["5", "5", "1"]
    assert rows["good/a/run.jsonl"] == ["26", "26"]


def test_of_many_files_the_bad_ones_have_a_row() -> None:
    """Given 90 clean and 60 bad files, when validated, then 50 bad ones have a row and the rest are counted."""
    Path("many").mkdir()
    for number in range(90):
        write(Path(f"many/clean{number}.jsonl"), [start(), end()])
    for number in range(60):
        write(Path(f"many/bad{number:02}.jsonl"), [start(), b"oops", end()])
    text = gradience("validate", "many").stdout
    assert text.startswith("ERROR  60 errors and 0 warnings in 60 of 150 files.")
    assert sum(line.split()[1:] == ["3", "2", "1"] for line in text.splitlines()) == 50
    assert "clean0" not in text
    assert "10 more files with issues" in text
    assert "90 of 150 files, 180 records" in text
    assert len(data_of("many")["files"]) == 150


def test_standard_input_is_read(inside: Path) -> None:
    """Given telemetry on stdin, plain and compressed, when `-` is validated, then it is reported as <stdin>."""
    for name, code in (("good/a/run.jsonl", 0), ("good/b/run.jsonl.gz", 0), ("mixed/damaged.jsonl", 1)):
        done = subprocess.run(
            [sys.executable, "-m", "gradience_cli", "validate", "-", "--json"],
            input=Path(name).read_bytes(),
            capture_output=True,
            env=environment(),
            check=False,
            timeout=60,
        )
        assert done.returncode == code, done.stderr
        (file,) = json.loads(done.stdout)["files"]
        assert file["path"] == "<stdin>"
        assert file["lines"] == (26 if not code else 15)
        assert all(issue["path"] == "<stdin>" for issue in file["issues"])


def test_a_skipped_rule_is_named_in_the_report() -> None:
    """Given --skip-rule and --no-cross-line, when validated, then the report says what was not checked."""
    text = gradience("validate", "mixed/warned.jsonl", "--skip-rule", "step_backwards").stdout
    assert "Not checked   step_backwards" in text
    assert data_of("good", "--no-cross-line")["skipped_rules"] == list(CROSS_LINE_CODES)
    assert data_of("good")["skipped_rules"] == []


SEQ = numbered([start(), *train([1, 2, 3, 4]), end()])
TRIPS = {
    "no_run_start": [*train([1]), end()],
    "second_run_start": [start(), *train([1]), start(ts=2.0), *train([2], ts=3.0)],
    "after_run_end": [start(), end(), *train([1], ts=1001.0)],
    "several_run_ids": [start(), *train([1], run_id="other"), *train([2])],
    "ts_backwards": [start(), *train([1], ts=10.0), *train([2], ts=8.0)],
    "step_backwards": [start(), *train([5, 6]), *train([2, 3], ts=4.0)],
    "seq_gap": [*SEQ[:2], *SEQ[4:]],
    "metric_type_changed": [start(), evaluation(1, "val", acc=0.5), evaluation(2, "val", acc="high")],
    "number_in_string": [start(), evaluation(1, "val", acc="0.5")],
}


@pytest.mark.parametrize("code", CROSS_LINE_CODES)
def test_each_rule_across_lines_has_its_switch(code: str) -> None:
    """Given a file that breaks one rule, when that rule is skipped, then it is clean; with any other, it is not."""
    path = str(write(Path("one.jsonl"), TRIPS[code]))
    assert [count["code"] for count in data_of(path)["issue_counts"]] == [code]
    assert data_of(path, "--skip-rule", code)["issue_counts"] == []
    others = [option for other in CROSS_LINE_CODES if other != code for option in ("--skip-rule", other)]
    assert [count["code"] for count in data_of(path, *others)["issue_counts"]] == [code]


def test_an_unknown_rule_is_met_with_a_suggestion() -> None:
    """Given a misspelt rule, when validated, then nothing is read and the nearest code is named, with all others."""
    result = gradience("validate", "mixed", "--skip-rule", "seq_gaps")
    assert "Did you mean seq_gap?" in result.stderr
    assert all(code in result.stderr for code in CROSS_LINE_CODES)
    assert result.stdout == ""


def test_the_formats_of_ci_say_the_same() -> None:
    """Given a clean, a warned, a bad and an unreadable file, when written in each format, then all agree."""
    paths = ("good", "mixed", "absent.jsonl")
    texts = {name: gradience("validate", *paths, "--format", name).stdout for name in ("junit", "github", "sarif")}
    suite = ET.fromstring(texts["junit"])[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("5", "1", "1")
    assert suite.find("testcase/failure").attrib == {"type": "invalid_json", "message": "12 errors"}  # type: ignore[union-attr]
    run = json.loads(texts["sarif"])["runs"][0]
    assert [one["ruleId"] for one in run["results"]] == ["invalid_json"] * 12 + ["step_backwards"]
    assert all(rule["help"]["text"] for rule in run["tool"]["driver"]["rules"])
    assert run["invocations"][0]["executionSuccessful"] is False
    lines = texts["github"].splitlines()
    assert lines[1] == "::error file=absent.jsonl,title=not read::absent.jsonl: does not exist. Check the path."
    assert lines[2].startswith("::error file=mixed/damaged.jsonl,line=2,title=invalid_json::")
    assert lines[-1] == "::error title=gradience validate::5 more: 4 errors, 1 warning."
    assert len(lines) == 11


HOSTILE = "x\x1b[2J\u202e]]>&<\n::error::x\r##[error]y,z:%0A"


@pytest.mark.parametrize("name", FORMATS)
def test_hostile_names_and_lines_are_only_text(name: str) -> None:
    """Given a hostile file name and hostile keys, when written in each format, then it is whole and nothing steers."""
    record = {"schema": "gradience.vnext.telemetry/v1", "ts": 1, "run_id": HOSTILE, "event": HOSTILE, "step": HOSTILE}
    path = write(Path(f"{HOSTILE}.jsonl".replace("/", "_")), [start(), record, json.dumps(record)[:-9], *train([1])])
    result = gradience("validate", path, "mixed", "--format", name, "--strict")
    assert result.returncode == 1
    steering = set("\x1b\u202e\r\x00\x07")
    assert not set(result.stdout) & steering
    if name == "junit":
        assert len(ET.fromstring(result.stdout)[0]) == 3
    elif name == "github":
        first, *rest = result.stdout.splitlines()
        assert first.startswith("gradience validate: ")
        head = re.compile(r"::error (file=[^:,]+,)?(line=\d+,)?title=[a-z_ ]+::")
        assert all(head.match(line) for line in rest)
    elif name != "text":
        json.loads(result.stdout, parse_constant=pytest.fail)


def test_output_where_stdout_shows_ascii_only() -> None:
    """Given a path beyond ASCII and a stdout of ASCII, when annotations are written, then they are escaped."""
    path = write(Path("模型.jsonl"), [b"oops"])
    variables = environment(PYTHONUTF8="0", PYTHONIOENCODING="ascii", LC_ALL="C")
    for name in FORMATS:
        command = [sys.executable, "-m", "gradience_cli", "validate", str(path), "--format", name]
        done = subprocess.run(command, capture_output=True, env=variables, check=False, timeout=60)
        assert done.returncode == 1, done.stderr
        assert done.stdout.isascii()
        assert done.stderr == b""


def test_a_link_loop_ends() -> None:
    """Given a folder linked into itself, when validated, then each file is read once."""
    Path("good/a/loop").symlink_to("..")
    Path("good/again").symlink_to(".")
    assert [file["path"] for file in data_of("good")["files"]] == ["good/a/run.jsonl", "good/b/run.jsonl.gz"]


def shown_on_a_terminal(*arguments: str, answer: bytes) -> str:
    """What a process writes to its stderr when that is a terminal, until it has read this from stdin."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "gradience_cli", "validate", *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=theirs, env=environment(TERM="xterm")
    )
    os.close(theirs)
    seen = b""
    assert process.stdin is not None
    deadline = time.monotonic() + 30
    while b"validating" not in seen and time.monotonic() < deadline:
        if select.select([ours], [], [], 0.2)[0]:
            seen += os.read(ours, 4096)
    process.stdin.write(answer)
    process.stdin.close()
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    assert process.wait(timeout=30) == 0
    return seen.decode()


def test_progress_is_shown_to_a_person_and_cleared() -> None:
    """Given a terminal and work over two seconds, when validated, then a line is on stderr and gone at the end."""
    text = shown_on_a_terminal("good/a/run.jsonl", "-", answer=Path("good/a/run.jsonl").read_bytes())
    assert "validating 2 of 2 · - · 2 s" in text
    assert text.endswith("\r\x1b[2K")


def test_progress_is_silent_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Given no terminal, when work takes long, then nothing is written."""
    with Progress("validating", 3, delay_s=0.0) as progress:
        progress.start("run.jsonl")
        time.sleep(0.3)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("width", [20, 40, 60, 200])
def test_the_progress_line_fits_and_steers_nothing(width: int) -> None:
    """Given a long and hostile name, when the line is made, then it fits the width and is printable."""
    progress = Progress("validating", 1000)
    progress.start(f"{HOSTILE}/{'x' * 100}/run.jsonl")
    line = progress.line(width)
    assert len(line) <= width
    assert line.isprintable()
    assert line.startswith("validating 1 of 1,00")
    assert "run.jsonl" in line or width < 60
