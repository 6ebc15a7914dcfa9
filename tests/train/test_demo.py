"""The demo, as a newcomer runs it: offline, quiet, and it learns something. Its time is in benchmarks/demo.py."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gradience_analysis import Run, load_run, validate
from gradience_schema import RunStatus

pytestmark = pytest.mark.hf

# Notes each attempt to reach anything and refuses it, then runs the module named first in the arguments.
SHUT_OFF = """
import runpy, socket, sys
notes = open(sys.argv[1], "w")
def refuse(*arguments, **keywords):
    notes.write(f"{arguments!r}\\n")
    notes.flush()
    raise OSError("this test has no network")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
sys.argv[1:] = sys.argv[3:]
runpy.run_module({module!r}, run_name="__main__")
"""


def python(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a new interpreter that sees the same packages."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    for setting in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "PYTHONWARNINGS"):
        environment.pop(setting, None)  # the demo sees to these itself
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, timeout=280, check=False)


@pytest.fixture(scope="module")
def default_demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Give the folder of one demo with no options and no network, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    code = SHUT_OFF.replace("{module!r}", "'gradience'")
    done = python("-c", code, folder / "network.txt", "gradience", "demo", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


Demo = tuple[Path, subprocess.CompletedProcess[str]]


def first_and_last(run: Run) -> tuple[float, float]:
    """Read the first and the last logged loss."""
    losses = run.series("loss")
    return losses[0][1], losses[-1][1]


def test_it_needs_no_network(default_demo: Demo) -> None:
    """Given no network, when the demo runs with its defaults, then it tries to reach nothing."""
    folder, _ = default_demo
    assert (folder / "network.txt").read_text(encoding="utf-8") == ""


def test_the_loss_falls_and_the_gap_is_real(default_demo: Demo) -> None:
    """Given the default demo, when its record is read, then it learned, and did better on what it had seen."""
    run = load_run(default_demo[0] / "gradience-demo")
    assert run.status == RunStatus.OK
    first, last = first_and_last(run)
    assert first > 3.0
    assert last < 0.4
    assert {"train", "val", "test"} <= set(run.evaluations)
    train, val, test = (run.evaluations[split][-1].number("loss") for split in ("train", "val", "test"))
    assert train is not None
    assert val is not None
    assert test is not None
    assert train < val < 1.0
    assert train < test < 1.0
    accuracy = run.evaluations["test"][-1].number("accuracy")
    assert accuracy is not None
    assert accuracy > 0.8  # one in eight by guessing


def test_its_record_keeps_the_contract(default_demo: Demo) -> None:
    """Given the default demo, when its telemetry is validated strictly, then there is nothing to report."""
    checked = validate(default_demo[0] / "gradience-demo" / "run.jsonl", strict=True)
    assert checked.ok
    assert not checked.issues


def test_the_terminal_stays_clean(default_demo: Demo) -> None:
    """Given the default demo, when stderr is read, then it holds our own lines and no library's."""
    assert default_demo[1].stderr.splitlines() == [
        "A tiny language model learns new facts by LoRA: half a minute, no download.",
        "Writing to gradience-demo",
        "  loading",
        "  base model",
        "  fine-tuning",
        "",
    ]


def test_it_prints_the_report_of_its_run(default_demo: Demo) -> None:
    """Given the default demo, when stdout is read, then it is the monitor report of the run that was written."""
    folder, done = default_demo
    run = load_run(folder / "gradience-demo")
    assert run.run_id in done.stdout
    assert "test ppl" in done.stdout
    assert "not measured" not in done.stdout


def test_the_commands_it_names_work(default_demo: Demo) -> None:
    """Given the next commands, when each is run where the demo ran, then it succeeds."""
    folder, done = default_demo
    commands = [line.strip() for line in done.stdout.split("Try next:\n")[1].splitlines() if line.strip()]
    assert len(commands) >= 3
    for command in commands:
        words = shlex.split(command)
        arguments = words[next(i for i, word in enumerate(words) if "gradience" in word) + 1 :]
        outcome = python("-m", "gradience", *arguments, cwd=folder)
        assert outcome.returncode == 0, f"{command}: {outcome.stderr}"


def test_it_leaves_adapter_base_and_arguments(default_demo: Demo) -> None:
    """Given the default demo, when its folder is listed, then every promised file is there, and nothing else."""
    out = default_demo[0] / "gradience-demo"
    assert sorted(path.name for path in out.iterdir()) == ["base", "peft", "run.jsonl", "training"]
    assert (out / "peft" / "adapter_model.safetensors").stat().st_size > 10_000
    arguments = json.loads((out / "training" / "training_args.json").read_text(encoding="utf-8"))
    assert arguments["max_steps"] == 160


def test_a_second_demo_leaves_the_first_alone(tmp_path: Path) -> None:
    """Given a folder of that name, when the demo runs with one step, then it takes the next free name and says so."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine", encoding="utf-8")
    done = python("-m", "gradience.demo", "--out", "out", "--max-steps", "1", "--seed", "7", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "out exists and stays as it is. Writing to out-2" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    run = load_run(tmp_path / "out-2")
    assert run.status == RunStatus.OK
    assert run.config is not None
    assert run.config.training.seed == 7
    assert run.config.training.max_steps == 1


@pytest.mark.parametrize("options", [["--guard"], ["--inject-nan"], ["--guard", "--inject-nan", "--inject-step", "5"]])
def test_the_guard_is_refused_in_one_sentence(options: list[str], tmp_path: Path) -> None:
    """Given an option of the guard, when the demo is asked for it, then it exits 2, says why, and trains nothing."""
    done = python("-m", "gradience", "demo", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert re.search(r"guard.* not part of this version", done.stderr)
    assert all(option in done.stderr for option in options if option.startswith("--"))
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    """Given a Python without torch, when the demo is asked for, then it exits 2 and says what to install."""
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['torch', 'transformers', 'peft']))\n"
        "sys.argv[1:] = ['demo']\n"
        "from gradience_cli.__main__ import main\n"
        "main()\n"
    )
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install 'gradience[train]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """Given an output path below a file, when the demo is asked to write there, then it exits 2 and says why."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = python("-m", "gradience", "demo", "--out", tmp_path / "file" / "out", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot be created" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("steps", [0, -1])
def test_run_demo_refuses_no_steps(steps: int, tmp_path: Path, run_demo: Callable[..., object]) -> None:
    """Given fewer than one step, when the demo is called from Python, then the error says what it needs."""
    with pytest.raises(ValueError, match=f"max_steps must be at least 1, got {steps}"):
        run_demo(tmp_path, max_steps=steps)


@pytest.fixture
def run_demo() -> Callable[..., object]:
    """Give the function; importing it loads torch, which the tests above do only in their own processes."""
    from gradience_train.demo import run_demo

    return run_demo
