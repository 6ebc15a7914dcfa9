"""What `pip install gradience` alone gives: the writer and the schema, from the standard library."""

from __future__ import annotations

import importlib
import json
import sysconfig
from pathlib import Path

import pytest

EMIT = """
import sys
before = set(sys.modules)  # what the environment itself loads at start-up
from gradience import ConfigSnapshot, LoraSnapshot, Severity, TelemetryWriter, load_schema

with TelemetryWriter("run.jsonl") as telemetry:
    telemetry.run_start(ConfigSnapshot(model_name="tiny", lora=LoraSnapshot(r=8, alpha=16)))
    telemetry.train_step(1, loss=float("nan"), lr=2e-4)
    telemetry.eval(1, split="val", metrics={"loss": 2.5})
    telemetry.alert(severity=Severity.WARNING, code="X", message="a warning")
assert load_schema("train_step")["$id"]
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
ours = {"gradience", "gradience_emit", "gradience_schema"}
print(*sorted(loaded - set(sys.stdlib_module_names) - ours - {"__main__"}))
"""


@pytest.mark.parametrize("package", ["gradience", "gradience_emit", "gradience_schema"])
def test_packages_come_from_where_they_were_installed(installed, package):
    """Given an installed wheel, when a package is imported, then it is the installed one and not a checkout's."""
    found = Path(importlib.import_module(package).__file__).resolve()
    site = Path(sysconfig.get_paths()["purelib"]).resolve()
    assert found.is_relative_to(site) == (installed != "checkout"), f"{package} is {found}, site-packages {site}"


def test_a_run_is_emitted(installed, python, tmp_path):
    """Given no extra, when a run is emitted, then the file has its events and only the standard library was loaded."""
    done = python("-c", EMIT)
    assert done.returncode == 0, done.stderr
    if installed == "bare":
        assert done.stdout.split() == []
    records = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [record["event"] for record in records] == ["run_start", "train_step", "eval", "alert", "run_end"]
    assert [record["seq"] for record in records] == [0, 1, 2, 3, 4]
    assert records[1]["loss"] is None
    assert records[1]["nonfinite"] == {"/loss": "nan"}
    assert records[-1]["status"] == "ok"


@pytest.mark.parametrize("words", [("monitor", "run.jsonl"), ("--help",), ()], ids=["monitor", "help", "nothing"])
def test_the_command_names_the_missing_extra(installed, gradience, words):
    """Given no extra, when `gradience` is called, then it prints the pip line to run and exits 2."""
    if installed != "bare":
        pytest.skip("the extra `cli` is installed")
    done = gradience(*words)
    assert done.returncode == 2
    assert "pip install 'gradience[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_reading_names_the_missing_extra(installed, python):
    """Given no extra, when a reader is imported, then the error says what to install."""
    if installed != "bare":
        pytest.skip("the extra `analysis` is installed")
    done = python("-c", "from gradience import load_run; load_run('run.jsonl')")
    assert done.returncode == 1
    assert "pip install 'gradience[" in done.stderr
