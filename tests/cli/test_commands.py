"""The commands as processes: exit codes, streams, formats, and start-up."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gradience_cli.app import COMMANDS, build
from gradience_schema import EVENT_TYPES, schema_files
from tests.analysis.records import end, healthy_run, record, start, train, troubled_run, write
from tests.analysis.reference import FOLDER, FOREIGN, V1, needs_reference_runs
from tests.cli.command import environment, gradience, in_own_process


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """One file or folder of each kind."""
    early = '{"timestamp": "t", "event": "e", "data": {}}\n'
    made = {
        "clean": write(tmp_path / "clean.jsonl", healthy_run()),
        "troubled": write(tmp_path / "troubled.jsonl", troubled_run()),
        "warned": write(tmp_path / "warned.jsonl", [start(), *train([2, 3]), *train([1], ts=9.0)]),
        "torn": tmp_path / "torn.jsonl",
        "damaged": write(tmp_path / "damaged.jsonl", [start(), b"oops", *train([1]), end()]),
        "garbage": write(tmp_path / "garbage.jsonl", [b"oops", b"\xff\xfe\x00"]),
        "empty": write(tmp_path / "empty.jsonl", []),
        "foreign": tmp_path / "foreign.jsonl",
        "gzip": tmp_path / "gzip.jsonl",
        "utf16": tmp_path / "utf16.jsonl",
        "folder": tmp_path / "folder",
        "nothing": tmp_path / "nothing",
        "absent": tmp_path / "absent.jsonl",
        "fifo": tmp_path / "fifo.jsonl",
        "zero": Path("/dev/zero"),
    }
    made["torn"].write_bytes(made["clean"].read_bytes()[:-9])
    made["foreign"].write_text(early)
    made["utf16"].write_bytes(made["clean"].read_text().encode("utf-16"))
    made["gzip"].write_bytes(gzip.compress(made["clean"].read_bytes()))
    made["utf16"].write_text(made["clean"].read_text(), encoding="utf-16")
    made["folder"].mkdir()
    made["nothing"].mkdir()
    write(made["folder"] / "run.jsonl", healthy_run())
    os.mkfifo(made["fifo"])
    return made


TABLE = [
    # command line, exit code
    ("monitor clean", 0),
    ("monitor clean --fail-on warning", 0),
    ("monitor folder", 0),
    ("monitor troubled", 0),
    ("monitor troubled --fail-on error", 1),
    ("monitor troubled --fail-on warning", 1),
    ("monitor warned --fail-on error", 0),
    ("monitor warned --fail-on warning", 1),
    ("monitor clean --gap-threshold 0.5 --fail-on warning", 1),
    ("monitor clean --gap-threshold -1", 2),
    ("monitor clean --gap-threshold nan", 2),
    ("monitor clean --gap-threshold x", 2),
    ("monitor clean --fail-on loud", 2),
    ("monitor clean --format html5", 2),
    ("monitor damaged", 0),
    ("monitor damaged --strict-schema", 2),
    ("monitor clean --strict-schema", 0),
    ("monitor clean absent", 2),
    ("monitor garbage", 2),
    ("monitor empty", 2),
    ("monitor foreign", 0),
    ("monitor gzip", 0),
    ("monitor utf16", 2),
    ("monitor nothing", 2),
    ("monitor absent", 2),
    ("monitor fifo", 2),
    ("monitor zero", 2),
    ("monitor", 2),
    ("monitor clean --nonsense", 2),
    ("validate clean", 0),
    ("validate warned", 0),
    ("validate warned --strict", 1),
    ("validate warned --strict --no-cross-line", 0),
    ("validate torn", 0),
    ("validate torn --strict", 1),
    ("validate damaged", 1),
    ("validate clean damaged", 1),
    ("validate clean absent", 2),
    ("validate garbage", 1),
    ("validate empty", 1),
    ("validate foreign", 1),
    ("validate gzip", 0),
    ("validate utf16", 2),
    ("validate folder", 0),
    ("validate absent", 2),
    ("validate fifo", 2),
    ("validate clean --max-issues -1", 2),
    ("schema list", 0),
    ("schema show", 0),
    ("schema show eval", 0),
    ("schema show evla", 2),
    ("schema export clean", 2),
    ("schema", 2),
    ("--version", 0),
    ("--help", 0),
    ("", 2),
    ("nonsense", 2),
]


@pytest.mark.parametrize(("line", "code"), TABLE)
def test_exit_code(files: dict[str, Path], line: str, code: int) -> None:
    """Given each kind of input, when a command runs on it, then its exit code is as documented."""
    arguments = [files.get(word, word) for word in line.split()]
    result = gradience(*arguments)
    assert result.returncode == code, result.stderr
    if code == 2 and line not in {"", "schema", "config"}:
        assert result.stderr.strip()


@pytest.mark.parametrize(
    ("line", "code"),
    [("monitor clean", 0), ("monitor troubled --fail-on error", 1), ("validate damaged", 1), ("monitor garbage", 2)],
)
def test_exit_code_of_the_process(files: dict[str, Path], line: str, code: int) -> None:
    """Given the real process, when it ends, then its code is that of the table, and there is no traceback."""
    result = in_own_process(*[files.get(word, word) for word in line.split()])
    assert result.returncode == code
    assert "Traceback" not in result.stderr


def test_complaint_is_one_line_with_the_remedy(files: dict[str, Path]) -> None:
    """Given inputs that cannot be read, when monitored, then each gets one line on stderr that helps."""
    result = gradience("monitor", files["utf16"], files["absent"])
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert "iconv" in lines[0]
    assert "does not exist. Check the path." in lines[1]
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["monitor", "validate"])
def test_json_is_alone_on_stdout(files: dict[str, Path], command: str) -> None:
    """Given --json, --format json and --output, when run, then the same document with its schema id comes."""
    first = gradience(command, files["troubled"], "--json")
    assert json.loads(first.stdout)["schema"] == f"gradience.{command}/v1"
    assert gradience(command, files["troubled"], "--format", "json").stdout == first.stdout
    target = files["nothing"] / "out.json"
    third = gradience(command, files["troubled"], "--json", "--output", target)
    assert third.stdout == ""
    assert target.read_text() == first.stdout
    assert third.returncode == first.returncode


@pytest.mark.parametrize("command", ["monitor", "validate"])
def test_quiet_leaves_only_the_exit_code(files: dict[str, Path], command: str) -> None:
    """Given --quiet, when run, then stdout is empty, the exit code stays, and complaints still come."""
    loud, quiet = (gradience(command, files["damaged"], *extra) for extra in ((), ("--quiet",)))
    assert quiet.stdout == ""
    assert quiet.returncode == loud.returncode
    assert gradience(command, files["absent"], "-q").stderr


def test_output_that_cannot_be_written_is_a_usage_error(files: dict[str, Path]) -> None:
    """Given a folder as --output, when run, then it is exit 2 with the reason."""
    result = gradience("monitor", files["clean"], "--output", files["folder"])
    assert result.returncode == 2
    assert "cannot be written" in result.stderr


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_reader_that_goes_away_causes_no_traceback(files: dict[str, Path], extra: list[str]) -> None:
    """Given a pipe that is closed at once, when a report is written to it, then nothing is said and the code kept."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "gradience_cli", "monitor", str(files["troubled"]), "--fail-on", "error", *extra]
    result = subprocess.run(
        command, stdout=write_end, stderr=subprocess.PIPE, env=environment(), check=False, timeout=60
    )
    os.close(write_end)
    assert result.stderr == b""
    assert result.returncode == 1


def test_schema_commands_give_the_published_schema(tmp_path: Path) -> None:
    """Given the schema commands, when run, then every event is listed, and export equals the package's files."""
    listed = [line.split()[0] for line in gradience("schema", "list").stdout.splitlines()]
    assert listed == list(EVENT_TYPES)
    assert json.loads(gradience("schema", "show").stdout) == schema_files()["telemetry.schema.json"]
    assert gradience("schema", "export", tmp_path / "new" / "dir").returncode == 0
    exported = {
        path.relative_to(tmp_path / "new" / "dir").as_posix(): json.loads(path.read_text())
        for path in (tmp_path / "new" / "dir").rglob("*.json")
    }
    assert exported == dict(schema_files())


NAMES = [name.rstrip("_") for name in COMMANDS]


@pytest.mark.parametrize(
    "command", ["", *NAMES, "schema list", "schema show", "schema export", "config show", "guard simulate"]
)
def test_help_has_a_sentence_and_an_example(command: str) -> None:
    """Given each command, when asked for help, then it says what it does; the ones that act show an example."""
    result = CliRunner().invoke(build(), [*command.split(), "--help"])
    assert result.exit_code == 0
    sentence = result.output.split("\n\n")[1].strip()
    assert sentence[0].isupper()
    assert sentence.rstrip().endswith(".")
    assert command in {"", "schema", "config", "guard"} or f"Example: gradience {command}" in " ".join(
        result.output.split()
    )


def test_help_lists_exactly_the_registered_commands() -> None:
    """Given the tuple of commands, when help is shown, then it lists these and no others."""
    output = CliRunner().invoke(build(), ["--help"]).output
    listed = [line.split()[0] for line in output.partition("Commands:")[2].splitlines() if line.strip()]
    assert sorted(listed) == sorted(NAMES)


HEAVY = ("torch", "pandas", "jsonschema", "referencing", "numpy", "pyarrow")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["monitor", "RUN"], ["monitor", "RUN", "--json"], ["validate", "RUN"]]
)
def test_happy_path_imports_nothing_heavy(files: dict[str, Path], arguments: list[str]) -> None:
    """Given a clean run, when a command runs, then neither torch nor pandas nor jsonschema is imported."""
    words = [str(files["clean"]) if word == "RUN" else word for word in arguments]
    code = (
        "import sys; from gradience_cli.app import run; code = run(sys.argv[1:]); "
        f"loaded = set({HEAVY!r}) & set(sys.modules); assert code == 0 and not loaded, loaded"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, env=environment(), check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("typer", ["--help"], "cli"),
        ("rich", ["monitor", "RUN"], "cli"),
        ("msgspec", ["validate", "RUN"], "cli"),
        ("jsonschema", ["validate", "BAD"], "cli"),
        ("gradience_analysis.telemetry", ["monitor", "RUN"], None),
    ],
)
def test_missing_module_names_its_extra(
    files: dict[str, Path], missing: str, arguments: list[str], extra: str | None
) -> None:
    """Given a module that is not installed, when a command needs it, then the extra is named; ours is a bug."""
    bad = write(files["nothing"] / "bad.jsonl", [start(), record("run_end", status="done")])
    words = [{"RUN": str(files["clean"]), "BAD": str(bad)}.get(word, word) for word in arguments]
    code = f"import sys; sys.modules[{missing!r}] = None; from gradience_cli.__main__ import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        encoding="utf-8",
        env=environment(),
        check=False,
        timeout=60,
    )
    if extra is None:
        assert "Traceback" in result.stderr
        return
    assert result.returncode == 2
    assert f"pip install 'gradience[{extra}]'" in result.stderr
    assert "Traceback" not in result.stderr


@needs_reference_runs
@pytest.mark.parametrize("name", V1)
def test_reference_run_validates_and_reports(name: str) -> None:
    """Given a real run, when validated and monitored, then both are clean, with loss and status filled in."""
    assert gradience("validate", FOLDER / name, "--strict").returncode == 0
    result = gradience("monitor", FOLDER / name, "--json", "--fail-on", "warning")
    assert result.returncode == 0
    run: dict[str, Any] = json.loads(result.stdout)["runs"][0]
    assert run["status"] == "ok"
    assert run["training"]["curves"]["loss"]["last"]["value"] > 0
    assert run["evaluation"] or name == "outputs_run.jsonl"


@needs_reference_runs
@pytest.mark.parametrize("command", ["monitor", "validate"])
@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_reference_file_is_read(command: str, name: str) -> None:
    """Given a real file in the early layout, when a command reads it, then it works, and says how to convert it."""
    result = gradience(command, FOLDER / name)
    assert result.returncode == (0 if command == "monitor" else 1)
    assert "gradience import" in result.stdout.replace("\n", " ")


def test_monitor_takes_every_run_below_a_folder(tmp_path: Path) -> None:
    """Given a folder with runs below it, when monitored, then an overview lists each, and each has its report."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "run.jsonl", healthy_run())
    result = gradience("monitor", tmp_path)
    assert result.returncode == 0
    assert result.stdout.startswith("OK  2 runs, nothing against any of them.")
    assert result.stdout.count("Ran to its end") == 2
    data = json.loads(gradience("monitor", tmp_path, "--json").stdout)
    assert [Path(run["path"]).name for run in data["runs"]] == ["a", "b"]


def test_monitor_tells_several_runs_of_a_folder_apart(tmp_path: Path) -> None:
    """Given two runs in one folder, when monitored, then each is named by its file and its run."""
    for run_id in ("one", "two"):
        rows = [start(run_id=run_id), *train([1, 2, 3], run_id=run_id), end(run_id=run_id)]
        write(tmp_path / f"{run_id}.jsonl", rows)
    data = json.loads(gradience("monitor", tmp_path, "--json").stdout)
    assert [run["run_id"] for run in data["runs"]] == ["one", "two"]
    assert [run["path"] for run in data["runs"]] == [f"{tmp_path / name}.jsonl ({name})" for name in ("one", "two")]


@pytest.mark.parametrize("fmt", ["md", "html"])
def test_monitor_writes_documents(tmp_path: Path, fmt: str) -> None:
    """Given a run, when a document is asked for, then it starts with the verdict and holds the evaluation."""
    path = write(tmp_path / "run.jsonl", healthy_run())
    result = gradience("monitor", path, "--format", fmt)
    assert result.returncode == 0
    assert "Ran to its end" in result.stdout
    assert "Evaluation" in result.stdout
