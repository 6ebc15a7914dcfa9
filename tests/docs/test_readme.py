"""The README does what it says: its commands run, its Python runs, and its output is what comes out."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(README)
SHELL = [body for language, body in BLOCKS if language in {"bash", "sh", "console"}]
PYTHON = [body for language, body in BLOCKS if language == "python"]
OUTPUT = [body for language, body in BLOCKS if language == "text"]
SETUP = ("make", "pip", "python -m pip", "pytest", "git", "cd")

# What the README's reader brings along: a model with an adapter, data and arguments.
READERS_OWN = """
from peft import LoraConfig, get_peft_model
from transformers import TrainingArguments
from gradience_train.embedded import tiny_qa
_task = tiny_qa(seed=0)
model = get_peft_model(_task.model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
train, val = _task.train, _task.val
args = TrainingArguments(output_dir="my-run", max_steps=4, logging_steps=1, eval_strategy="steps", eval_steps=2,
                         report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no",
                         dataloader_pin_memory=False)
"""


def commands() -> list[str]:
    """Every command of the README, prompts and comments cut off; `a && b` are two."""
    lines = [re.sub(r"\s+#.*$", "", line.removeprefix("$ ")) for body in SHELL for line in body.splitlines()]
    return [words.strip() for line in lines for words in line.split(" && ") if words.strip()]


def is_setup(command: str) -> bool:
    """Whether the command installs or builds; those are checked, not run."""
    return command.startswith(tuple(f"{word} " for word in SETUP))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """This interpreter's environment, with `gradience` and `python` on the path and the checkout importable."""
    folder = tmp_path_factory.mktemp("bin")
    python = shlex.quote(sys.executable)
    for name, words in {"gradience": f"{python} -m gradience", "python": python}.items():
        shim = folder / name
        shim.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        shim.chmod(0o755)
    roots = os.pathsep.join(str(root) for root in (ROOT, ROOT / "schema", ROOT / "cli"))
    quiet = {"NO_COLOR": "1", "TERM": "dumb", "HF_HUB_OFFLINE": "1"}
    kept = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "PYTHONWARNINGS"}}
    return kept | quiet | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": roots}


def run(words: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run to the end, as a reader would, with output kept apart."""
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)


def label(line: str) -> str:
    """What a line of a report is about: its first column, up to the first number."""
    return re.split(r"\d|\s{2,}", line.strip())[0].strip()


@pytest.mark.hf
@pytest.mark.timeout(1200)
def test_every_command_runs_and_the_python_too(environment: dict[str, str], tmp_path: Path) -> None:
    """Given the README's commands in their order, when run in one folder with the clone's fixtures, then each exits 0.

    The Python blocks follow in the same folder, so that they read the run which the commands left there; and the
    report that the README shows has the lines of the report that `gradience monitor` prints here.
    """
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    printed = []
    for command in commands():
        if is_setup(command):
            continue
        done = run(["bash", "-euo", "pipefail", "-c", command], tmp_path, environment)
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        printed.append(done.stdout)
    assert printed, "the README shows no command of ours"
    script = "\n".join([READERS_OWN, *PYTHON])
    done = run([sys.executable, "-c", script], tmp_path, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "my-run" / "run.jsonl").is_file()

    real = {label(line) for text in printed for line in text.splitlines()}
    claimed = [line for body in OUTPUT for line in body.splitlines() if label(line)]
    assert claimed, "the README shows no output"
    verdict, *rest = claimed  # another processor may round to another verdict; the lines are the same
    assert verdict.startswith("OK ")
    invented = [line for line in rest if label(line) not in real]
    assert not invented, "the README shows lines that no command prints:\n" + "\n".join(invented)


def test_every_make_line_names_a_target() -> None:
    """Given the README's `make` lines, when looked up in the Makefile, then each target exists."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [target for command in commands() if command.startswith("make ") for target in command.split()[1:]]
    assert {"demo", "test"} <= set(targets)
    missing = [target for target in targets if not re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE)]
    assert not missing


def test_every_pip_line_names_an_extra() -> None:
    """Given the README's `pip install` lines, when their extras are looked up, then each exists."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    lines = [command for command in commands() if "pip install" in command]
    named = [extra for line in lines for group in re.findall(r"\[([a-z,]+)\]", line) for extra in group.split(",")]
    assert {"train", "dev"} <= set(named)
    assert set(named) <= extras.keys()


def test_the_first_screen_has_the_two_commands_use_and_output() -> None:
    """Given the first 60 lines, when read, then they hold both commands, the integration and real output."""
    first = "\n".join(README.splitlines()[:60])
    for text in ("make demo", "make test", "pip install", "callbacks=[GradienceCallback()]", "```text"):
        assert text in first
    assert len(PYTHON[0].strip().splitlines()) <= 8
