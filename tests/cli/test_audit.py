"""`gradience audit`: the look that was approved, the options, the exit codes, and the record that it adds to a run."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.audit import audit_adapter
from gradience_analysis.reports.audit import AuditView, audit_report
from gradience_analysis.reports.audit_data import KEYS
from gradience_cli.auditing import BaseProgress
from gradience_cli.terminal import render_text
from gradience_emit import TelemetryWriter, segments
from tests.analysis.adapters.files import adapter, base, floats
from tests.analysis.records import healthy_run, lines, numbered, write
from tests.analysis.reports.known import falling, known
from tests.cli.command import environment, gradience, in_own_process

GOLDEN = Path(__file__).parent / "golden"
CLEAN, FINDINGS, USAGE, INCONCLUSIVE = 0, 1, 2, 3
HEAVY = {"torch", "pandas", "pyarrow", "transformers", "peft", "safetensors", "scipy", "jsonschema"}


def run_file(path: Path) -> Path:
    """A run of the usual kind, ended, each record numbered."""
    return write(path, numbered(healthy_run()))


def last(path: Path) -> dict[str, Any]:
    """The last record of a run."""
    found: dict[str, Any] = json.loads(path.read_bytes().splitlines()[-1])
    return found


@pytest.mark.parametrize("ascii_only", [False, True], ids=["blocks", "ascii"])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_report_looks_as_it_was_approved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, ascii_only: bool, update_golden: bool
) -> None:
    """Given an adapter with a base model, when rendered at three widths, then the text is that of the golden file."""
    monkeypatch.chdir(tmp_path)
    spectra = falling(layers=24)
    known(Path("adapter"), spectra)
    base(Path("base"), layers=24, width=16)
    audit = audit_adapter(Path("adapter"), Path("base"))
    view = AuditView(verbose=width == 120, suggest_per_layer=width == 60)
    text = render_text(audit_report([audit], "adapter", view), width=width, ascii_only=ascii_only)
    golden = GOLDEN / f"audit_{width}{'_ascii' if ascii_only else ''}.txt"
    if update_golden:
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8"), "look at the change, then run: pytest tests/cli --update-golden"


def test_json_is_the_artifact(tmp_path: Path) -> None:
    """Given --json, when run, then stdout is one object with the stable keys, and nothing else is written."""
    result = gradience("audit", known(tmp_path / "ädapter"), "--json", "--layers", "--suggest-per-layer")
    data = json.loads(result.stdout, parse_constant=pytest.fail)
    assert (result.returncode, result.stderr) == (CLEAN, "")
    assert tuple(data) == KEYS
    assert data["schema"] == "gradience.audit/v1"
    assert data["path"] == str(tmp_path / "ädapter")
    assert len(data["layer_data"]["layer_rows"]) == len(data["rank_suggestions"]["layers"]) == 18


@pytest.mark.parametrize("name", ["text", "json", "md", "html"])
def test_every_format_says_the_coverage(tmp_path: Path, name: str) -> None:
    """Given each format, when written to a file, then how much was audited is in it."""
    out = tmp_path / "report"
    result = gradience("audit", known(tmp_path / "a"), "--format", name, "--output", out)
    assert (result.returncode, result.stdout) == (CLEAN, "")
    text = out.read_text(encoding="utf-8")
    assert '"lora_keys": 36' in text if name == "json" else "36 of 36 LoRA-like keys" in text


def test_folder_can_be_named_in_two_ways(tmp_path: Path) -> None:
    """Given DIR and --peft-dir, when they are the same, then that is fine; when they differ, it is not."""
    folder, other = known(tmp_path / "a"), known(tmp_path / "b")
    plain = gradience("audit", folder).stdout
    assert gradience("audit", "--peft-dir", folder).stdout == plain
    assert gradience("audit", folder, "--peft-dir", folder).stdout == plain
    result = gradience("audit", folder, "--peft-dir", other)
    assert (result.returncode, result.stdout) == (USAGE, "")
    assert "DIR and --peft-dir are the same, and differ" in result.stderr


def test_files_can_be_given_apart(tmp_path: Path) -> None:
    """Given a config and weights elsewhere, when named, then these are audited in place of the folder's."""
    folder, other = known(tmp_path / "a"), known(tmp_path / "b", {"0.self_attn.q_proj": [1.0, 0.5]}, lora_alpha=8)
    weights, config = other / "adapter_model.safetensors", other / "adapter_config.json"
    found = json.loads(gradience("audit", folder, "--weights", weights, "--adapter-config", config, "--json").stdout)
    assert found["summary"]["n_layers"] == 1
    assert found["config"]["lora_alpha"] == 8


def test_several_adapters_are_each_audited(tmp_path: Path) -> None:
    """Given a folder of two adapters, when audited, then each has its part; with --adapter there is one."""
    known(tmp_path / "all" / "first")
    known(tmp_path / "all" / "second", {"0.self_attn.q_proj": [1.0, 0.5]})
    both = json.loads(gradience("audit", tmp_path / "all", "--json").stdout)
    assert [one["name"] for one in both["adapters"]] == ["first", "second"]
    one = json.loads(gradience("audit", tmp_path / "all", "--adapter", "second", "--json").stdout)
    assert (one["name"], one["summary"]["n_layers"]) == ("second", 1)
    text = gradience("audit", tmp_path / "all").stdout
    assert text.startswith("OK  2 adapters, nothing against any of them.")


@pytest.mark.parametrize(
    ("zeros", "options", "code"),
    [
        (2, (), FINDINGS),
        (1, (), CLEAN),
        (1, ("--fail-on", "warning"), FINDINGS),
        (0, ("--fail-on", "warning"), CLEAN),
    ],
    ids=["an error", "a warning", "a warning to fail on", "nothing"],
)
def test_findings_decide_the_exit_code(tmp_path: Path, zeros: int, options: tuple[str, ...], code: int) -> None:
    """Given an adapter with untrained modules, when audited, then the exit code is that of the severity."""
    spectra = {f"{layer}.self_attn.q_proj": [0.0 if layer < zeros else 1.0] * 4 for layer in range(2)}
    result = gradience("audit", known(tmp_path / "a", spectra), *options)
    assert result.returncode == code


def test_nothing_audited_is_inconclusive(tmp_path: Path) -> None:
    """Given weights without a LoRA-like key, when audited, then the exit code is 3, and the verdict says why."""
    folder = adapter(tmp_path / "a", {"model.layers.0.q_proj.weight": floats((4, 4))})
    result = gradience("audit", folder)
    assert result.returncode == INCONCLUSIVE
    assert "OK" not in result.stdout.splitlines()[0]


def test_no_udr_leaves_the_base_alone(tmp_path: Path) -> None:
    """Given a base model and --no-udr, when audited, then the base is not even looked for."""
    folder = known(tmp_path / "a")
    data = json.loads(gradience("audit", folder, "--base-model", tmp_path / "none", "--no-udr", "--json").stdout)
    assert data["base"] is None
    assert "udr_median" not in data["summary"]
    assert gradience("audit", folder, "--base-model", tmp_path / "none").returncode == USAGE


def test_norms_are_kept_from_one_audit_to_the_next(tmp_path: Path) -> None:
    """Given --base-norms-cache, when audited twice, then the second takes all norms from it and says so."""
    folder, model = adapter(tmp_path / "a"), base(tmp_path / "base")
    options = ("--base-model", model, "--base-norms-cache", tmp_path / "norms.json")
    first, second = (json.loads(gradience("audit", folder, *options, "--json").stdout) for _ in range(2))
    assert (first["base"]["cached"], second["base"]["cached"]) == (0, 2)
    assert first["summary"] == second["summary"]
    assert "2 norms from the cache" in gradience("audit", folder, *options).stdout


def test_two_adapters_are_held_against_each_other(tmp_path: Path) -> None:
    """Given --against, when run, then the two are compared; with nothing in common the exit code is 3."""
    first, second = known(tmp_path / "a"), known(tmp_path / "b")
    result = gradience("audit", first, "--against", second)
    assert result.returncode == CLEAN
    assert "18 modules in common" in result.stdout
    apart = known(tmp_path / "c", {"0.mlp.other": [1.0, 0.5]})
    assert gradience("audit", first, "--against", apart).returncode == INCONCLUSIVE


@pytest.mark.parametrize("option", ["--append", "--adapter-config", "--weights", "--base-model", "--suggest-per-layer"])
def test_options_without_a_part_in_a_comparison_are_refused(tmp_path: Path, option: str) -> None:
    """Given --against and an option that it would pass over, when run, then it says so."""
    folder = known(tmp_path / "a")
    value = () if option == "--suggest-per-layer" else (folder,)
    result = gradience("audit", folder, "--against", folder, option, *value)
    assert (result.returncode, result.stdout) == (USAGE, "")
    assert f"{option} has no part in --against" in result.stderr


def test_summary_is_added_to_the_run(tmp_path: Path) -> None:
    """Given --append, when run, then the run has one more valid record with the summary, and monitor shows it."""
    run = run_file(tmp_path / "run.jsonl")
    before = run.read_bytes()
    result = gradience("audit", known(tmp_path / "a"), "--append", run, "--json")
    assert result.returncode == CLEAN
    after = run.read_bytes()
    assert hashlib.sha256(after[: len(before)]).digest() == hashlib.sha256(before).digest()
    assert after[len(before) :].count(b"\n") == 1
    added, old = last(run), json.loads(before.splitlines()[-1])
    assert (added["event"], added["kind"], added["step"]) == ("metrics", "lora_audit", None)
    assert (added["run_id"], added["seq"]) == (old["run_id"], old["seq"] + 1)
    assert added["metrics"] == json.loads(result.stdout)["summary"]
    assert added["adapter"] == "a"
    assert f"record {added['seq']}" in result.stderr
    assert gradience("validate", run, "--strict").returncode == CLEAN
    monitored = json.loads(gradience("monitor", run, "--json").stdout)["runs"][0]
    measured = {one["name"]: one["value"] for one in monitored["measurements"]}
    assert measured["audit_layers"] == 18
    assert "18 modules, 4,608 parameters" in gradience("monitor", run).stdout


def test_run_of_the_emitter_is_added_to_after_its_end(tmp_path: Path) -> None:
    """Given a run that the emitter wrote and ended, when added to twice, then seq goes on, and all of it is valid."""
    run = tmp_path / "run.jsonl"
    with TelemetryWriter(run) as writer:
        writer.run_start({"lora": {"r": 8}})
        writer.train_step(1, loss=2.0)
    for seq in (3, 4):
        assert gradience("audit", known(tmp_path / "a"), "--append", run, "--quiet").returncode == CLEAN
        assert (last(run)["seq"], last(run)["run_id"]) == (seq, writer.run_id)
    assert gradience("validate", run, "--strict").returncode == CLEAN


def test_link_to_a_run_leads_to_the_run(tmp_path: Path) -> None:
    """Given a link, when added to, then the file behind it has the record, in its numbering."""
    run = run_file(tmp_path / "run.jsonl")
    link = tmp_path / "link.jsonl"
    link.symlink_to(run)
    seq = last(run)["seq"]
    assert gradience("audit", known(tmp_path / "a"), "--append", link, "--quiet").returncode == CLEAN
    assert last(run)["seq"] == seq + 1
    assert link.is_symlink()


@pytest.mark.parametrize("cut", [1, 2, 40], ids=["newline", "brace", "half"])
def test_torn_tail_is_closed_and_not_fused(tmp_path: Path, cut: int) -> None:
    """Given a last line without its end, when added to, then it stays as it is on a line of its own."""
    run = run_file(tmp_path / "run.jsonl")
    whole = run.read_bytes()
    run.write_bytes(whole[:-cut])
    assert gradience("audit", known(tmp_path / "a"), "--append", run, "--quiet").returncode == CLEAN
    kept, _, added = run.read_bytes()[:-1].rpartition(b"\n")
    assert kept == whole[:-cut]
    torn, count = cut > 1, len(whole.splitlines())
    assert json.loads(added)["seq"] == (count - 1 if torn else count)
    report = json.loads(gradience("validate", run, "--json").stdout)
    codes = {issue["code"] for file in report["files"] for issue in file["issues"]}
    assert codes == ({"invalid_json"} if torn else set())


def test_run_without_numbers_is_added_to(tmp_path: Path) -> None:
    """Given a run whose records have no seq, when added to, then it is still valid."""
    run = write(tmp_path / "run.jsonl", healthy_run())
    assert gradience("audit", known(tmp_path / "a"), "--append", run, "--quiet").returncode == CLEAN
    assert gradience("validate", run, "--strict").returncode == CLEAN


def test_run_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    """Given a writer that holds the run, when added to, then that is refused, and no other file is made."""
    run = tmp_path / "run.jsonl"
    folder = known(tmp_path / "a")
    with TelemetryWriter(run) as writer:
        writer.run_start({})
        before = run.read_bytes()
        result = gradience("audit", folder, "--append", run, "--quiet")
        assert result.returncode == USAGE
        assert "is being written by another process" in result.stderr
        assert run.read_bytes() == before
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["run.jsonl"]


@pytest.mark.parametrize("name", ["missing", "folder", "fifo", "text", "gzip", "stdin"])
def test_what_is_no_run_is_refused_before_the_audit(tmp_path: Path, name: str) -> None:
    """Given something that cannot be added to, when named, then one sentence says so, and nothing is written."""
    import gzip

    path = Path("-") if name == "stdin" else tmp_path / f"{name}.jsonl"
    if name == "folder":
        path.mkdir()
    elif name == "fifo":
        os.mkfifo(path)
    elif name == "text":
        path.write_text("hello\n")
    elif name == "gzip":
        path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines(healthy_run()))))
    before = path.read_bytes() if path.is_file() else b""
    result = gradience("audit", known(tmp_path / "a"), "--append", path)
    assert (result.returncode, result.stdout) == (USAGE, "")
    assert result.stderr.count("\n") == 1
    assert before == (path.read_bytes() if path.is_file() else b"")


@pytest.mark.parametrize("taken", [-1, 0, 100], ids=["error", "nothing", "short"])
def test_disk_that_refuses_leaves_the_run_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """Given a full disk, when added to, then the exit code is 2, and what was written of the record is cut back."""
    run = run_file(tmp_path / "run.jsonl")
    before = run.read_bytes()

    def refuse(descriptor: int, data: bytes) -> int:
        if taken < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(descriptor, data[:taken])

    monkeypatch.setattr(segments, "_write", refuse)
    result = gradience("audit", known(tmp_path / "a"), "--append", run, "--quiet")
    assert result.returncode == USAGE
    assert "cannot be written" in result.stderr
    assert run.read_bytes() == before


def test_end_that_holds_no_record_is_not_gone_on_from(tmp_path: Path) -> None:
    """Given a run whose last megabytes are no records, when added to, then its numbering cannot be known: refused."""
    run = run_file(tmp_path / "run.jsonl")
    with run.open("ab") as file:
        file.write((b"x" * 99 + b"\n") * 30_000)
    size = run.stat().st_size
    result = gradience("audit", known(tmp_path / "a"), "--append", run, "--quiet")
    assert result.returncode == USAGE
    assert "no record at its end" in result.stderr
    assert run.stat().st_size == size


def test_only_one_audit_goes_into_a_run(tmp_path: Path) -> None:
    """Given several adapters, or nothing audited, when it is to be appended, then that is refused."""
    known(tmp_path / "all" / "first")
    known(tmp_path / "all" / "second")
    nothing = adapter(tmp_path / "none", {"model.layers.0.q_proj.weight": floats((4, 4))})
    run = run_file(tmp_path / "run.jsonl")
    before = run.read_bytes()
    for folder, words in ((tmp_path / "all", "--adapter"), (nothing, "Nothing was audited")):
        result = gradience("audit", folder, "--append", run)
        assert result.returncode == USAGE
        assert words in result.stderr
    assert run.read_bytes() == before


def test_ascii_terminal_gets_ascii(tmp_path: Path) -> None:
    """Given an encoding that shows ASCII only, when printed, then every byte is ASCII, and heat strips are digits."""
    result = in_own_process("audit", known(tmp_path / "a"), PYTHONUTF8="0", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert result.returncode == CLEAN
    assert result.stdout.isascii()
    assert "0 0 to 9 " in result.stdout


def test_colour_is_as_asked(tmp_path: Path) -> None:
    """Given FORCE_COLOR and NO_COLOR, when printed to a pipe, then heat strips are coloured, or not."""
    folder = known(tmp_path / "a")
    assert "\x1b[33m" in in_own_process("audit", folder, FORCE_COLOR="1", TERM="xterm-256color").stdout
    plain = in_own_process("audit", folder, FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color").stdout
    assert "\x1b[3" not in plain
    assert "█" in plain


@pytest.mark.parametrize("options", [(), ("--json", "--layers"), ("--format", "html")], ids=["text", "json", "html"])
def test_start_loads_no_heavy_library(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Given a small adapter, when audited in a process of its own, then numpy is the only large import."""
    arguments = ["audit", str(known(tmp_path / "a")), *options]
    code = (
        "import sys\nfrom gradience_cli.app import run\n"
        f"code = run({arguments!r})\nprint(*{{n.partition('.')[0] for n in sys.modules}}, file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment(), timeout=60
    )
    assert done.returncode == CLEAN, done.stderr
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "numpy" in loaded
    assert not loaded & HEAVY


def test_small_adapter_keeps_numpy_to_one_thread(tmp_path: Path) -> None:
    """Given no base model, when audited, then one thread is asked for; a variable that is set is left as it is."""
    folder, model = adapter(tmp_path / "a"), base(tmp_path / "base")
    code = (
        "import os, sys\nfrom gradience_cli.app import run\nrun(sys.argv[1:])\n"
        "print(os.environ.get('OPENBLAS_NUM_THREADS'))"
    )
    cases = (((), {}, "1"), ((), {"OPENBLAS_NUM_THREADS": "2"}, "2"), (("--base-model", str(model)), {}, "None"))
    for options, variables, expected in cases:
        kept = {name: value for name, value in environment().items() if name != "OPENBLAS_NUM_THREADS"}
        done = subprocess.run(
            [sys.executable, "-c", code, "audit", str(folder), "--quiet", *options],
            capture_output=True,
            text=True,
            check=True,
            env=kept | variables,
            timeout=60,
        )
        assert done.stdout.strip() == expected


def test_progress_counts_the_base_weights() -> None:
    """Given a base of three weights, when measured, then the line counts them, and is not there before the first."""
    with BaseProgress("base") as progress:
        for done in range(4):
            progress.at(done, 3)
        line = progress._line
        assert line is not None
        assert line.line(80).startswith("measuring base weights 3 of 3 · base")
