"""R14: exit codes as documented, never a traceback on bad input, and never 0 for a file without a valid event."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gradience_cli.app import COMMANDS
from tests.analysis.adapters.files import adapter
from tests.cli.command import Result, gradience, in_own_process
from tests.reliability import bad_inputs
from tests.reliability.bad_inputs import EVENTS, NONE

CLEAN, FINDINGS, USAGE, INCONCLUSIVE = 0, 1, 2, 3
CODES = {CLEAN, FINDINGS, USAGE, INCONCLUSIVE}
# For each module of commands the ways to call it with an input: {} is the input, {new} a path that does not exist.
READING: dict[str, Sequence[str]] = {
    "monitor": (
        "monitor {} --json --verbose",
        "monitor {}",
        "monitor {} --strict-schema --fail-on warning",
        "monitor {} --format md",
    ),
    "validate": (
        *("validate {}", "validate {} --json", "validate {} --strict --format junit", "validate {} --format github"),
        *("validate {} --format sarif", "validate {} --no-cross-line --max-issues 0"),
    ),
    "import_": (
        *("import {} --out {new}.jsonl", "import {} --out {new}.jsonl --json"),
        *(
            f"import {{}} --out {{new}}.jsonl --from {name}"
            for name in ("hf-trainer-state", "lightning-csv", "early-flat")
        ),
    ),
    "runs": ("runs {} --json", "runs {}", "runs {} --format csv", "runs {} --where r>=4 --sort final_loss"),
    "report": ("report {} -o {new}.html", "report {} -o {new}.md --verbose"),
    "compress": ("compress {} --out {new}", "compress {} --out {new} --dry-run --json"),
    "check": ("check {} --json", "check {}", "check --peft {} --verbose", "check --training {} --format html"),
    "audit": (
        *("audit {} --json", "audit {adapter} --weights {} --json", "audit {adapter} --adapter-config {}"),
        *("audit {adapter} --base-model {} --format md", "audit {adapter} --against {}"),
    ),
    "guard": ("guard simulate {} --json", "guard simulate {}", "guard simulate {} --format md --verbose"),
    "ingest": (
        "ingest {} --store {new}",
        "ingest {} --store {new} --json",
        "ingest {good} {} --store {new} --workers 1",
    ),
}
# Commands that read no telemetry, each with calls that are wrong.
WRONG: dict[str, Sequence[str]] = {
    "demo": (
        *("demo --max-steps 0", "demo --max-steps x", "demo --seed -1", "demo --out {file}/below", "demo extra"),
        *("demo --inject-step 3", "demo --guard --inject-step 3", "demo --inject-nan --inject-step 0"),
        *("demo --inject-nan --inject-step x", "demo --guard --inject-nan --max-steps 5 --inject-step 6"),
    ),
    "schema": (
        *(
            "schema show trainstep",
            "schema show ../v1",
            "schema export {file}",
            "schema export {file}/below",
            "schema show a b",
        ),
        "schema nonsense",
    ),
    "monitor": (
        "monitor",
        "monitor {file} --fail-on x",
        "monitor {file} --format x",
        "monitor {file} --gap-threshold x",
        "monitor {file} --policy {file}",
        "monitor {file} --policy {file}.none",
        "monitor {file}.none --follow",
        "monitor {file} --follow --json",
    ),
    "report": (
        *("report", "report {file} -o {file}", "report {file} -o {file}/below", "report {file} --format x"),
        *("report {file}.none -o {file}.html", "report {file} --gap-threshold x", "report {file} --policy {file}"),
    ),
    "check": (
        *("check {file}.none", "check --r x", "check --lr x", "check --fail-on x", "check --format x"),
        *("check --task-profile x", "check --peft-dir {file}", "check --training-dir {file}", "check a b"),
        *("check {file} --policy {file}", "check --peft {file} --peft-dir {file}", "check {file}/below"),
        "check --eval-data {file}.none",
    ),
    "audit": (
        *("audit", "audit {file}", "audit {file}.none", "audit a b", "audit {file} --peft-dir {file}.none"),
        *("audit {file} --rank-policies x", "audit {file} --top-wasteful -1", "audit {file} --top-singular-values x"),
        *("audit {file} --format x", "audit {file} --fail-on x", "audit {file} --against {file}"),
        *("audit {file} --policy {file}", "audit {file} --append {file}", "audit {file} --adapter x"),
    ),
    "compress": (
        *("compress", "compress {file}", "compress {file} --out {file}", "compress {file}.none --out {file}.x"),
        *("compress {file} --out {file}.x --rank 0", "compress {file} --out {file}.x --rank 2 --policy energy@0.99"),
        *("compress {file} --out {file}.x --policy x", "compress {file} --out {file}.x --dtype x"),
        *("compress {file} --out {file}.x --format x", "compress {file} --out {file}.x --suggestions {file}"),
        "compress {file} --out {file}/below",
    ),
    "guard": (
        *(
            "guard",
            "guard nonsense",
            "guard simulate",
            "guard simulate {file}.none",
            "guard simulate {file} --format x",
        ),
        *("guard simulate {file} --policy {file}", "guard simulate {file} --on-clipped-spike x"),
        "guard simulate {file} --output {file}/below",
    ),
    "config": ("config", "config show x", "config show --format x", "config show --policy {file}", "config nonsense"),
    "validate": (
        "validate",
        "validate {file} --skip-rule x",
        "validate {file} --max-issues -1",
        "validate {file} --format x",
    ),
    "import_": (
        "import",
        "import {file}",
        "import - --out {file}.x.jsonl",
        "import {file} --out {file} --from nonsense",
    ),
    "runs": (
        "runs",
        "runs {file} --where (",
        "runs {file} --where 1+",
        "runs {file} --sort nosuch",
        "runs {file} --limit -1",
    ),
    "ingest": ("ingest", "ingest {file}", "ingest {file} --store {file}", "ingest {file} --store {file}/below"),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """One file of each kind, and an adapter with nothing wrong in it beside them."""
    folder = tmp_path_factory.mktemp("inputs")
    adapter(folder / "adapter")
    return bad_inputs.make(folder)


def names() -> list[str]:
    """Kinds of bad input."""
    return [*bad_inputs._with_events(), *bad_inputs._without_events(), *bad_inputs._containers(), *NO_FILES]


NO_FILES = (
    *("missing", "fifo", "socket", "folder", "loop", "dangling", "zero", "tty", "null", "a file that fails to read"),
    *("a name too long", "a path below a file"),
)


def check(result: Result, command: str) -> None:
    """What holds for every call: a known exit code, no traceback, nothing that steers a terminal, JSON that is JSON."""
    assert result.returncode in CODES
    assert "Traceback" not in result.stdout + result.stderr
    # CSV into a pipe is data for a program, and has the text as it is.
    assert "csv" in command or not re.search(
        "[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]", result.stdout + result.stderr
    )
    if result.returncode == USAGE:
        assert result.stderr.strip()
    if "--json" in command and result.stdout.strip():
        json.loads(result.stdout, parse_constant=_refuse)


def _refuse(token: str) -> Any:
    raise AssertionError(f"{token} is not JSON")


def adapter_beside(good: Path) -> Path:
    """The sound adapter beside the inputs."""
    return good.parents[1] / "adapter"


def call(command: str, path: Path, new: Path, good: Path) -> Result:
    """Run a command line of the table."""
    places = {"{new}": str(new), "{good}": str(good), "{adapter}": str(adapter_beside(good)), "{}": str(path)}
    words: list[str] = []
    for word in command.split():
        for name, place in places.items():
            word = word.replace(name, place)  # noqa: PLW2901
        words.append(word)
    return gradience(*words)


def test_every_command_is_in_the_table() -> None:
    """Given the commands of the application, when looked up here, then each has its bad input."""
    assert set(COMMANDS) <= set(WRONG)
    assert set(COMMANDS) - {"demo", "schema", "config"} <= set(READING)


def cases() -> list[Any]:
    """Every call with every input: the first of each command always, the others in the long version."""
    found: list[Any] = []
    for module in COMMANDS:
        for place, command in enumerate(READING.get(module, ())):
            for name in names():
                marks = [pytest.mark.soak] if place else []
                found.append(pytest.param(command, name, id=f"{command}-{name}", marks=marks))
    return found


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("command", "name"), cases())
def test_bad_input(
    inputs: dict[str, tuple[Path, str]], tmp_path: Path, command: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given any bad input, when a command reads it, then it ends with an exit code that says so, and no traceback."""
    monkeypatch.setenv("COLUMNS", "200")
    path, what = inputs[name]
    result = call(command, path, tmp_path / "new", inputs["BOM"][0])
    check(result, command)
    if what != EVENTS:
        assert result.returncode != CLEAN
    if what not in {EVENTS, NONE}:
        assert result.returncode == USAGE
        assert result.stderr.count("\n") >= 1
    assert not list(tmp_path.glob("new*")) or command.startswith(("import", "ingest", "report"))


@pytest.mark.parametrize("name", names())
def test_bad_run_to_append_to(inputs: dict[str, tuple[Path, str]], tmp_path: Path, name: str) -> None:
    """Given any bad input as the run that an audit goes into, when appended to, then no byte of before is changed."""
    path, what = inputs[name]
    if what == EVENTS:
        path = Path(shutil.copyfile(path, tmp_path / "run.jsonl"))
    before = path.read_bytes() if what in {EVENTS, NONE} else b""
    result = gradience("audit", adapter_beside(inputs["BOM"][0]), "--append", path, "--quiet")
    check(result, "audit")
    assert result.returncode in ({CLEAN, USAGE} if what == EVENTS else {USAGE})
    if before:
        after = path.read_bytes()
        assert after.startswith(before)
        assert (len(after) > len(before)) == (result.returncode == CLEAN)


@pytest.mark.parametrize("command", [call for name in COMMANDS for call in WRONG[name]])
def test_wrong_call(tmp_path: Path, command: str) -> None:
    """Given arguments that make no sense, when run, then the exit code is 2, with a sentence on stderr."""
    file = tmp_path / "run.jsonl"
    file.write_bytes(bad_inputs.healthy())
    result = gradience(*(word.replace("{file}", str(file)) for word in command.split()))
    check(result, command)
    assert result.returncode == USAGE
    assert file.read_bytes() == bad_inputs.healthy()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("BOM", CLEAN),
        ("duplicate keys", CLEAN),
        ("NaN", CLEAN),
        ("backward steps", CLEAN),
        ("lone surrogates", CLEAN),
        ("unknown events only", FINDINGS),
        ("a byte 0xFF", FINDINGS),
        ("brackets", FINDINGS),
        ("a 5000-digit integer", FINDINGS),
        ("a 400-digit ts", FINDINGS),
        ("ts x", FINDINGS),
        ("run_id list", FINDINGS),
        ("event object", FINDINGS),
        ("no event field", FINDINGS),
        ("many bad lines", FINDINGS),
        ("NUL block", FINDINGS),
        ("a line over the cap", FINDINGS),
        ("a cut-off gzip", FINDINGS),
        ("empty", FINDINGS),
        ("text", FINDINGS),
        ("telemetry v2", FINDINGS),
        ("UTF-16", USAGE),
        ("fifo", USAGE),
        ("zero", USAGE),
    ],
)
def test_validate_tells_tolerated_from_refused(inputs: dict[str, tuple[Path, str]], name: str, code: int) -> None:
    """Given a bad input, when validated, then tolerated is 0, lost is 1, and unreadable is 2."""
    assert gradience("validate", inputs[name][0]).returncode == code


def test_an_odd_counter_hides_no_abort(inputs: dict[str, tuple[Path, str]]) -> None:
    """Given a guard record whose counter is a string, when monitored, then the abort after it is still a finding."""
    result = gradience("monitor", inputs["n_rollbacks x"][0], "--fail-on", "error", "--json")
    assert result.returncode == FINDINGS
    assert "GUARD_ABORT" in result.stdout


@pytest.mark.parametrize("name", ["a byte 0xFF", "brackets", "fifo", "UTF-16", "a file that fails to read"])
def test_the_same_in_a_process_of_its_own(inputs: dict[str, tuple[Path, str]], name: str) -> None:
    """Given a bad input, when the installed entry point reads it, then its exit code is the one of the table."""
    path = inputs[name][0]
    result = in_own_process("validate", path)
    assert result.returncode == gradience("validate", path).returncode
    assert "Traceback" not in result.stderr
