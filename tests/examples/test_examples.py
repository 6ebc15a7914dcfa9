"""Each example runs as it stands, and what it records is telemetry/v1 by the published schema."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gradience_analysis import load_run
from gradience_emit.hf.config import GradienceCallbackConfig
from gradience_schema import RunStatus, load_schema, registry

pytestmark = pytest.mark.hf

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ["full_configuration", "minimal_trainer", "plain_loop", "toy_lora_run"]
ON_A_RUN = ["audit_compress_evaluate"]
"""Examples that take the folder of a finished run."""
GUARDED = ["guard_faults", "guarded_accelerate", "guarded_loop"]
"""Examples with tests of their own, beside this file."""
STEPS = 20
LOAD_AGAIN = """
import sys, json
from gradience_train.offline import offline_and_quiet
offline_and_quiet()
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base = AutoModelForCausalLM.from_pretrained(sys.argv[1] + "/base")
model = PeftModel.from_pretrained(base, sys.argv[1] + "/peft")
moved = [float(p.abs().max()) for name, p in model.named_parameters() if "lora_B" in name]
words = AutoTokenizer.from_pretrained(sys.argv[1] + "/base")("where does ada live ?").input_ids
print(json.dumps([len(moved), min(moved), len(words)]))
"""


@pytest.fixture(scope="module")
def validator() -> Any:
    """Give a validator of one telemetry record."""
    return jsonschema.Draft202012Validator(load_schema(), registry=registry())


def python(*arguments: str | Path, cwd: Path) -> str:
    """Run a new interpreter that sees the same packages, and return what it printed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}  # two threads are slow on a busy machine
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the output folder of an example, which runs the first time it is asked for."""

    @cache
    def output(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        python(ROOT / "examples" / f"{name}.py", "--out", folder / "out", "--max-steps", str(STEPS), cwd=folder)
        return folder / "out"

    return output


def test_every_example_is_here() -> None:
    """Given the examples folder, when its files are listed, then the tests below run each of them."""
    assert sorted(path.stem for path in (ROOT / "examples").glob("*.py")) == sorted(EXAMPLES + ON_A_RUN + GUARDED)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_records_a_valid_run(name: str, run_of: Callable[[str], Path], validator: Any) -> None:
    """Given an example, when it runs for a few steps, then its run is complete and each line validates."""
    telemetry = run_of(name) / "run.jsonl"
    records = [json.loads(line) for line in telemetry.read_bytes().splitlines()]
    for record in records:
        validator.validate(record)
    assert records[0]["event"] == "run_start"
    run = load_run(telemetry)
    assert run.status == RunStatus.OK
    assert run.steps["loss"].notna().sum() >= 3
    assert run.evaluations["val"]
    assert run.config is not None
    assert run.config.lora.r == 8
    assert not run.issues


def test_full_configuration_uses_every_option_that_has_an_effect() -> None:
    """Given the callback's options, when the example's text is searched, then none is left out."""
    text = (ROOT / "examples" / "full_configuration.py").read_text(encoding="utf-8")
    options = {field.name for field in dataclasses.fields(GradienceCallbackConfig)}
    assert {name for name in options if f"{name}=" in text} == options


def test_toy_run_leaves_what_it_promises(run_of: Callable[[str], Path]) -> None:
    """Given the toy run, when it ran, then telemetry, adapter, base and arguments are there and load again."""
    out = run_of("toy_lora_run")
    printed = python("-c", LOAD_AGAIN, out, cwd=out)
    adapters, smallest_change, tokens = json.loads(printed)
    assert (adapters, tokens) == (14, 5)  # seven modules in each of two layers
    assert smallest_change > 0  # lora_B starts at zero: every adapter was trained
    arguments = json.loads((out / "training" / "training_args.json").read_text(encoding="utf-8"))
    assert arguments["max_steps"] == STEPS
    assert sorted(path.name for path in out.iterdir()) == ["base", "peft", "run.jsonl", "training"]


def test_a_smaller_adapter_is_evaluated_beside_the_one_that_was_trained(tmp_path: Path) -> None:
    """Given the demo, when its adapter is audited, compressed and evaluated, then the docs show such a run."""
    example = ROOT / "examples" / "audit_compress_evaluate.py"
    printed = rows_of(python(example, "demo", cwd=tmp_path))
    shown = rows_of((ROOT / "docs" / "audit.md").read_text(encoding="utf-8"))
    assert list(printed) == [name for name in shown if name in printed]
    base, trained, rank_1 = (printed[name] for name in ("none: the base alone", "as trained, r 8", "rank 1"))
    cut = [printed[f"energy@{share}"] for share in ("0.99", "0.95", "0.90")]
    assert (trained["parameters"], rank_1["parameters"]) == (16_384, 2_048)
    assert 0 < cut[0]["relative error"] < cut[1]["relative error"] < cut[2]["relative error"] < 100
    # What was trained is lost step by step, down to what the base knew by itself.
    losses = [one["val loss"] for one in (trained, cut[0], cut[2], rank_1, base)]
    assert losses == sorted(losses)
    for name, figures in printed.items():
        assert figures["parameters"] == pytest.approx(shown[name]["parameters"], rel=0.25)  # another machine rounds


def rows_of(text: str) -> dict[str, dict[str, float]]:
    """The rows of the example's table, by the name of the adapter."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.count("|") == 8
    ]
    titles = next(line for line in lines if line[0] == "adapter")
    rows = [line for line in lines[lines.index(titles) + 2 :] if len(line) == len(titles)]
    return {
        row[0]: {
            title: float(cell.replace(",", "").rstrip("%") or 0)
            for title, cell in zip(titles[1:], row[1:], strict=True)
        }
        for row in rows
    }
