"""The command line with the extra `cli`: the schema, validation and the report of an emitted run."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import pytest

EMIT = """
import math
from gradience import ConfigSnapshot, LoraSnapshot, TelemetryWriter

with TelemetryWriter("run.jsonl") as telemetry:
    telemetry.run_start(ConfigSnapshot(model_name="tiny-model", lora=LoraSnapshot(r=8, alpha=16)))
    for step in range(1, 21):
        telemetry.train_step(step, loss=3.0 / step, lr=1e-3 / step)
    telemetry.eval(20, split="train", metrics={"loss": 0.5, "ppl": math.exp(0.5)})
    telemetry.eval(20, split="test", metrics={"loss": 0.75, "ppl": math.exp(0.75)})
"""


@pytest.fixture
def run(installed, python, tmp_path):
    """A run of 20 steps with a known gap of exp(0.25), emitted by the packages under test."""
    if installed == "bare":
        pytest.skip("needs the extra `cli`")
    done = python("-c", EMIT)
    assert done.returncode == 0, done.stderr
    return tmp_path / "run.jsonl"


def test_the_command_line_comes_from_where_it_was_installed(installed, python):
    """Given an installed wheel, when the CLI and the reader are imported, then they are the installed ones."""
    if installed == "bare":
        pytest.skip("needs the extra `cli`")
    done = python(
        "-c", "import gradience_cli, gradience_analysis as a; print(gradience_cli.__file__); print(a.__file__)"
    )
    assert done.returncode == 0, done.stderr
    site = Path(sysconfig.get_paths()["purelib"]).resolve()
    for line in done.stdout.splitlines():
        assert Path(line).resolve().is_relative_to(site) == (installed != "checkout")


def test_the_report_has_the_numbers_that_were_written(run, gradience):
    """Given an emitted run, when monitored as text and as JSON, then model and gap are those that were written."""
    text = gradience("monitor", "run.jsonl")
    assert text.returncode == 0, text.stderr
    assert "tiny-model" in text.stdout
    report = json.loads(gradience("monitor", "run.jsonl", "--json").stdout)
    assert report["schema"]
    assert "1.284" in json.dumps(report)  # exp(0.75 - 0.5) = 1.2840…


def test_a_sound_file_validates_and_a_damaged_one_does_not(run, gradience):
    """Given an emitted run, when one byte of a line is lost, then validate exits 1 and not 0."""
    assert gradience("validate", "run.jsonl").returncode == 0
    lines = run.read_bytes().splitlines(keepends=True)
    lines[5] = lines[5].replace(b"{", b"", 1)
    run.write_bytes(b"".join(lines))
    damaged = gradience("validate", "run.jsonl")
    assert damaged.returncode == 1
    assert "Traceback" not in damaged.stderr


def test_an_absent_file_is_a_usage_error(run, gradience):
    """Given a path that is not there, when monitored, then one sentence on stderr and exit code 2."""
    done = gradience("monitor", "nowhere.jsonl")
    assert done.returncode == 2
    assert "nowhere.jsonl" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_schema_is_shipped(run, gradience, tmp_path):
    """Given the installed package, when schemas are listed and exported, then the files are there and are JSON."""
    assert "train_step" in gradience("schema", "list").stdout
    assert json.loads(gradience("schema", "show", "eval").stdout)["$schema"].endswith("2020-12/schema")
    assert gradience("schema", "export", "schemas").returncode == 0
    assert len(list((tmp_path / "schemas").rglob("*.json"))) >= 8


def test_the_demo_names_the_extra_it_needs(installed, gradience):
    """Given no torch, when the demo is started, then it says what to install and exits 2."""
    if installed != "cli":
        pytest.skip("only where the extra `train` is known to be absent")
    done = gradience("demo")
    assert done.returncode == 2
    assert "pip install 'gradience[train]'" in done.stderr
    assert "Traceback" not in done.stderr
