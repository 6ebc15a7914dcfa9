"""`gradience check`: its options, its exit codes, and that what it prints is for its reader."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.config_check.configs import FLAT, LEFT_OUT, flat, written
from tests.cli.command import Result, gradience, in_own_process

CLEAN, FINDINGS, USAGE, INCONCLUSIVE = 0, 1, 2, 3


def report(*arguments: str | Path, code: int = CLEAN) -> dict[str, Any]:
    """The JSON report of a call that must end with this exit code."""
    result = gradience("check", *arguments, "--json")
    assert result.returncode == code, result.stderr + result.stdout
    data: dict[str, Any] = json.loads(result.stdout)
    return data


def codes(data: dict[str, Any]) -> list[str]:
    """The codes of its findings."""
    return [finding["code"] for finding in data["findings"]]


def test_a_sound_configuration(tmp_path: Path) -> None:
    """Given a sound configuration, when checked, then the exit code is 0 and the first line says so."""
    result = gradience("check", written(tmp_path, FLAT))
    assert result.returncode == CLEAN
    assert result.stdout.startswith("OK  Nothing stands against 16 settings; not looked at: training data")
    assert result.stderr == ""


@pytest.mark.parametrize(
    "changes",
    [
        *({"lora_r": value} for value in (0, -4, "16", 100_000)),
        *({"learning_rate": value} for value in (10, 0, float("nan"))),
        {"lora_alpha": -1},
        {"target_modules": []},
        {"lora_dropout": 1.5},
        {"per_device_train_batch_size": 0},
        {"max_steps": LEFT_OUT, "num_train_epochs": -1},
    ],
)
def test_inputs_that_an_earlier_tool_let_pass(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Given a setting that cannot work, when checked, then the exit code is 1, with an error on it."""
    data = report(written(tmp_path, flat(**changes)), code=FINDINGS)
    assert data["findings"][0]["severity"] == "error"
    assert data["findings"][0]["changes"]


@pytest.mark.parametrize("changes", [{"lerning_rate": 1e-4, "learning_rate": LEFT_OUT}, {"target_modules": LEFT_OUT}])
def test_slips_fail_when_warnings_do(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Given a slip, when warnings are to fail, then the exit code is 1; by default errors alone do."""
    path = written(tmp_path, flat(**changes))
    assert gradience("check", path, "--fail-on", "warning").returncode == FINDINGS
    assert gradience("check", path).returncode == CLEAN
    assert gradience("check", path, "--quiet", "--fail-on", "warning").stdout == ""


@pytest.mark.parametrize(
    "arguments", [[], ["--verbose"], ["--no-env"], ["--format", "html"], ["--format", "md"], ["--quiet"]]
)
def test_nothing_to_check(arguments: list[str]) -> None:
    """Given no setting and nothing to look at, when checked, then the exit code is 3."""
    assert gradience("check", *arguments).returncode == INCONCLUSIVE


def test_an_empty_file_is_nothing_to_check(tmp_path: Path) -> None:
    """Given a file without a setting that is known, when checked, then the exit code is 3, and the keys are named."""
    assert report(written(tmp_path, {}), code=INCONCLUSIVE)["judged"] is False
    result = gradience("check", written(tmp_path, {"my_key": 1}))
    assert result.returncode == INCONCLUSIVE
    assert "my_key" in result.stdout


def test_flags_override(tmp_path: Path) -> None:
    """Given every setting as a flag, when checked, then each holds over the file, with the flag as its source."""
    flags: dict[str, tuple[str, Any, str]] = {
        "--lr": ("optimizer.lr", 3e-4, "3e-4"),
        "--weight-decay": ("optimizer.weight_decay", 0.1, "0.1"),
        "--optimizer": ("optimizer.name", "adamw_torch", "adamw_torch"),
        "--r": ("lora.r", 8, "8"),
        "--alpha": ("lora.alpha", 24.0, "24"),
        "--targets": ("lora.target_modules", ["a", "b"], "a, b"),
        "--model": ("model_name", "org/base", "org/base"),
        "--dataset": ("dataset_name", "mine", "mine"),
        "--task": ("task", "gsm8k", "gsm8k"),
        "--task-profile": ("task_profile", "generation", "generation"),
        "--notes": ("notes", "a try", "a try"),
    }
    given = [word for flag, (_, _, text) in flags.items() for word in (flag, text)]
    data = report(written(tmp_path, FLAT | {"notes": "old", "task": "old"}), *given)
    held = {
        name: (data["settings"][key]["value"], data["settings"][key]["name"]) for name, (key, _, _) in flags.items()
    }
    assert held == {flag: (value, flag) for flag, (_, value, _) in flags.items()}
    assert data["config"]["lora"]["alpha_over_r"] == 3.0


def test_targets_may_be_given_again() -> None:
    """Given target modules in two options, when read, then all of them hold."""
    data = report("--r", "8", "--targets", "q,k", "--targets", "v")
    assert data["config"]["lora"]["target_modules"] == ["q", "k", "v"]


def test_adapter_and_trainer_fill_gaps(tmp_path: Path) -> None:
    """Given files for adapter and trainer, when checked together, then their settings hold where CONFIG has none."""
    config = written(tmp_path, {"lora_r": 8, "task_profile": "generation"}, "config.json")
    for folder, name, entries in (
        ("adapter", "adapter_config.json", {"r": 64, "lora_alpha": 16, "target_modules": ["q"], "peft_type": "LORA"}),
        ("out/run", "training_args.json", {"learning_rate": 1e-4, "max_steps": 5, "seed": 1, "eval_strategy": "epoch"}),
    ):
        (tmp_path / folder).mkdir(parents=True)
        written(tmp_path / folder, entries, name)
    one = report(config, "--peft-dir", tmp_path / "adapter", "--training-dir", tmp_path / "out")
    two = report(
        *(config, "--peft", tmp_path / "adapter" / "adapter_config.json"),
        *("--training", tmp_path / "out" / "run" / "training_args.json"),
    )
    assert one["settings"] == two["settings"]
    assert {key: one["settings"][key]["value"] for key in ("lora.r", "lora.alpha", "optimizer.lr")} == {
        "lora.r": 8,
        "lora.alpha": 16,
        "optimizer.lr": 1e-4,
    }
    assert codes(one) == ["settings_differ"]
    assert one["settings"]["lora.r"]["replaced"][0]["value"] == 64


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--peft-dir", "two"], ["several", "two/a/adapter_config.json", "two/b/adapter_config.json", "--peft"]),
        (["--training-dir", "two"], ["holds no training_args.json"]),
        (["--training", "two/a/training_args.bin"], ["a pickle", "trainer.args.to_json_string()"]),
        (["--peft", "two"], ["a folder", "--peft-dir"]),
        (["two"], ["a folder"]),
        (["missing.json"], ["does not exist"]),
        (["--policy", "missing.toml"], ["policy"]),
        (["--lr", "fast"], ["--lr"]),
        (["--r", "1.5"], ["--r"]),
        (["--task-profile", "hard"], ["hard_reasoning"]),
        (["--fail-on", "info"], ["--fail-on"]),
        (["--format", "junit"], ["Formats: text, json, md, html"]),
        (["--peft", "x", "--peft-dir", "y"], ["--peft and --peft-dir"]),
        (["--eval-data", "missing.jsonl"], ["missing.jsonl"]),
    ],
)
def test_what_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    """Given input that cannot be used, when checked, then the exit code is 2 and stderr says what and what to do."""
    for name in ("a", "b"):
        (tmp_path / "two" / name).mkdir(parents=True)
        written(tmp_path / "two" / name, {"r": 8}, "adapter_config.json")
        (tmp_path / "two" / name / "training_args.bin").write_bytes(b"PK\x03\x04")
    if arguments[0] == "--training-dir":
        for name in ("a", "b"):
            (tmp_path / "two" / name / "training_args.bin").unlink()
    monkeypatch.chdir(tmp_path)
    result = gradience("check", *arguments)
    assert result.returncode == USAGE
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.stderr


def test_data_model_checkpoint_and_machine(tmp_path: Path) -> None:
    """Given data, a model, a checkpoint and --env, when checked, then each was looked at and has its findings."""
    data = tmp_path / "train.jsonl"
    data.write_text('{"text": "one"}\nnot json\n', encoding="utf-8")
    made = report(
        *(written(tmp_path, FLAT), "--data", data, "--eval-data", data, "--model", tmp_path / "nowhere"),
        *("--resume-from", tmp_path / "checkpoint-5", "--env", "--output-dir", tmp_path / "out"),
        code=FINDINGS,
    )
    assert made["not_checked"] == []
    found = {finding["rule"] for finding in made["findings"]}
    assert {"D01", "D02", "D04", "M01", "M09"} <= found
    assert not (tmp_path / "out").exists(), "a check leaves nothing behind"


def test_personal_data_in_the_examples_is_found_and_not_shown(tmp_path: Path) -> None:
    """Given an address in the examples, when checked, then the rule trips, and no format shows the address."""
    data = tmp_path / "train.jsonl"
    lines = [json.dumps({"text": f"write to jane.doe{n}@example.org about {n}"}) for n in range(20)]
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for fmt in ("text", "json", "md", "html"):
        result = gradience("check", written(tmp_path, FLAT), "--data", data, "--format", fmt, "--verbose")
        assert "D09" in result.stdout
        assert "jane.doe" not in result.stdout


def test_a_policy_of_ones_own(tmp_path: Path) -> None:
    """Given a policy that narrows a range, when checked with it, then what was fine is a finding."""
    policy = tmp_path / "policy.toml"
    policy.write_text("version = 1\n[peak_lr.highest]\nvalue = 1e-4\n", encoding="utf-8")
    assert codes(report(written(tmp_path, FLAT), "--policy", policy)) == ["lr_invalid"]


@pytest.mark.parametrize("fmt", ["text", "json", "md", "html"])
def test_every_format_to_a_file(tmp_path: Path, fmt: str) -> None:
    """Given each format, when written to a file, then the file has it and stdout is empty."""
    target = tmp_path / "report"
    result = gradience("check", written(tmp_path, flat(lora_r=0)), "--format", fmt, "--output", target)
    assert (result.returncode, result.stdout) == (FINDINGS, "")
    assert "The rank is 0" in target.read_text(encoding="utf-8")


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    """Given escapes, markup and bidi in keys and values, when reported in any format, then none of it is live."""
    evil = "\x1b]0;owned\x07\x1b[2J\u202eevil\r\n[bold red]x[/]<script>alert(1)</script>"
    entries = {f"lerning_rate{evil[:1]}": 1, evil: 2, "lora_r": evil, "target_modules": [evil], "model_name": evil}
    for fmt in ("text", "json", "md", "html"):
        result = gradience("check", written(tmp_path, FLAT | entries), "--format", fmt, "--verbose")
        assert result.returncode == FINDINGS
        assert not set(result.stdout) & {"\x1b", "\x07", "\u202e", "\r"}
        assert fmt != "html" or "<script>alert" not in result.stdout


@pytest.mark.parametrize("width", [60, 120])
def test_lines_fit_the_screen(tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a configuration with many faults, when shown on a screen, then no line is wider than it."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(tmp_path)
    written(tmp_path, dict.fromkeys(FLAT, "x") | {"lerning_rate": 1})
    lines = gradience("check", "config.json").stdout.splitlines()
    assert len(lines) > 20
    assert max(map(len, lines)) <= width


def test_standard_input(tmp_path: Path) -> None:
    """Given a configuration on standard input, when checked as a process of its own, then it is read."""
    import subprocess
    import sys

    from tests.cli.command import environment

    command = [sys.executable, "-m", "gradience_cli", "check", "-", "--json"]
    done = subprocess.run(
        command, input="lora_r: 0\n", capture_output=True, text=True, env=environment(), timeout=60, check=False
    )
    assert done.returncode == FINDINGS
    assert json.loads(done.stdout)["settings"]["lora.r"]["source"] == "<stdin>"


def test_the_same_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Given a configuration, when the installed entry point checks it, then code and output are those of the call."""
    path = written(tmp_path, flat(lora_r=0))
    own: Result = in_own_process("check", path)
    assert (own.returncode, own.stdout) == (FINDINGS, gradience("check", path).stdout)


def test_help_has_every_option() -> None:
    """Given --help, when read, then every option of the command is there with an example."""
    text = gradience("check", "--help").stdout
    for option in (
        *("--peft", "--peft-dir", "--training", "--training-dir", "--task", "--data", "--eval-data", "--model"),
        *("--dataset", "--task-profile", "--optimizer", "--lr", "--weight-decay", "--r", "--alpha", "--targets"),
        *("--notes", "--env", "--no-env", "--output-dir", "--resume-from", "--policy", "--fail-on", "--verbose"),
        *("--format", "--json", "--output", "--quiet", "Example: gradience check"),
    ):
        assert option in text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    """Given a FIFO as configuration, when checked, then it is refused at once."""
    os.mkfifo(tmp_path / "pipe.yaml")
    result = gradience("check", tmp_path / "pipe.yaml")
    assert result.returncode == USAGE
    assert "FIFO" in result.stderr
    assert "telemetry" not in result.stderr
