"""The demo, as a newcomer runs it: offline, quiet, and it learns something. Its time is in benchmarks/demo.py."""

from __future__ import annotations

import inspect
import json
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis import Run, load_run, validate
from gradience_cli.commands import demo as demo_command
from gradience_cli.demo_outcome import outcome_report
from gradience_cli.terminal import render_text
from gradience_emit.guard.record import GuardSummary
from gradience_emit.summary import write_summary
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


@pytest.mark.xdist_group("demo")  # one run serves all tests
def test_it_needs_no_network(default_demo: Demo) -> None:
    """Given no network, when the demo runs with its defaults, then it tries to reach nothing."""
    folder, _ = default_demo
    assert (folder / "network.txt").read_text(encoding="utf-8") == ""


@pytest.mark.xdist_group("demo")  # one run serves all tests
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


@pytest.mark.xdist_group("demo")  # one run serves all tests
def test_its_record_keeps_the_contract(default_demo: Demo) -> None:
    """Given the default demo, when its telemetry is validated strictly, then there is nothing to report."""
    checked = validate(default_demo[0] / "gradience-demo" / "run.jsonl", strict=True)
    assert checked.ok
    assert not checked.issues


@pytest.mark.xdist_group("demo")  # one run serves all tests
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


@pytest.mark.xdist_group("demo")  # one run serves all tests
def test_it_prints_the_report_of_its_run(default_demo: Demo) -> None:
    """Given the default demo, when stdout is read, then it is the monitor report of the run that was written."""
    folder, done = default_demo
    run = load_run(folder / "gradience-demo")
    assert run.run_id in done.stdout
    assert "test ppl" in done.stdout
    assert "not measured" not in done.stdout


@pytest.mark.xdist_group("demo")  # one run serves all tests
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


@pytest.mark.xdist_group("demo")  # one run serves all tests
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


def demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the demo there for 40 steps."""
    done = python("-m", "gradience", "demo", "--max-steps", "40", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def saved_demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Give a demo with a NaN and the guard on."""
    folder = tmp_path_factory.mktemp("saved")
    return folder, demo(folder, "--guard", "--inject-nan")


@pytest.fixture(scope="module")
def lost_demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Give the same without the guard."""
    folder = tmp_path_factory.mktemp("lost")
    return folder, demo(folder, "--inject-nan")


def fields(text: str) -> dict[str, str]:
    """The last value of each label that the demo printed."""
    return dict(re.findall(r"^  (\S.{0,12}?) {1,}(\S.*)$", text, re.MULTILINE))


def summary_of(folder: Path) -> dict[str, Any]:
    """Read the summary beside the telemetry."""
    read: dict[str, Any] = json.loads((folder / "gradience-demo" / "summary.json").read_text(encoding="utf-8"))
    return read


@pytest.mark.xdist_group("demo with a NaN")
def test_the_guard_saves_a_run_with_a_nan(saved_demo: Demo) -> None:
    """Given a NaN in the middle and the guard on, when the demo ran, then it recovered and says so from its summary."""
    folder, done = saved_demo
    summary = summary_of(folder)
    guard = summary["guard"]
    assert (guard["total_skips"], guard["total_rollbacks"], guard["total_recoveries"]) == (1, 0, 1)
    assert (guard["integrity_status"], summary["total_steps"]) == ("recovered", 40)
    shown = fields(done.stdout)
    assert shown["fault"] == "the loss of step 20 was made NaN"
    assert shown["success"] == "yes"
    assert shown["integrity"].startswith("recovered")
    assert [shown[name] for name in ("skips", "rollbacks", "recoveries")] == ["1", "0", "1"]
    assert re.match(r"[\d.]+s for 40 steps", shown["duration"])
    assert "The run got over the NaN of step 20" in done.stdout


@pytest.mark.xdist_group("demo with a NaN")
def test_it_ends_near_the_run_without_the_fault(saved_demo: Demo) -> None:
    """Given the guarded run, when its losses are read beside those of the run without the fault, then they are near."""
    folder, done = saved_demo
    table = done.stdout.split("without the fault\n")[-1].splitlines()[:3]
    losses = {line.split()[0]: [float(cell) for cell in line.split()[1:]] for line in table}
    assert list(losses) == ["training", "validation", "test"]
    for ours, theirs in losses.values():
        assert ours != theirs
        assert ours == pytest.approx(theirs, rel=0.2)
    assert losses["training"][0] == pytest.approx(summary_of(folder)["final_loss"], rel=1e-3)
    test = load_run(folder / "gradience-demo").evaluations["test"][-1].number("loss")
    assert losses["test"][0] == pytest.approx(test, rel=1e-3)


@pytest.mark.xdist_group("demo with a NaN")
def test_the_guards_work_is_in_the_telemetry(saved_demo: Demo) -> None:
    """Given the guarded run, when its telemetry is read, then it keeps the contract and names the skipped step."""
    telemetry = saved_demo[0] / "gradience-demo" / "run.jsonl"
    assert not validate(telemetry, strict=True).issues
    run = load_run(telemetry)
    assert run.status == RunStatus.OK
    assert [alert.step for alert in run.alerts if alert.payload["code"] == "GUARD_SKIP"] == [20]


@pytest.mark.xdist_group("demo with a NaN")
def test_the_telemetry_is_of_one_run(saved_demo: Demo) -> None:
    """Given a second fine-tune for comparison, when the folder is listed, then it left nothing in it."""
    out = saved_demo[0] / "gradience-demo"
    assert sorted(path.name for path in out.iterdir()) == ["base", "peft", "run.jsonl", "summary.json", "training"]


@pytest.mark.xdist_group("demo with a NaN")
def test_the_terminal_names_the_fault_and_stays_clean(saved_demo: Demo) -> None:
    """Given the guarded run, when stderr is read, then it holds our own lines, the guard's among them."""
    assert saved_demo[1].stderr.splitlines() == [
        "A tiny language model learns new facts by LoRA: half a minute, no download.",
        "Writing to gradience-demo",
        "  loading",
        "  base model",
        "step 20: The loss was NaN or infinite; the guard skipped the update.",
        "  fine-tuning",
        "  without fault",
        "",
    ]


@pytest.mark.xdist_group("demo with a NaN")
def test_the_same_nan_without_the_guard_ruins_the_run(lost_demo: Demo) -> None:
    """Given a NaN and no guard, when the demo ran, then it says plainly that the run is lost, and how to guard it."""
    folder, done = lost_demo
    assert "ERROR  The run is lost: the loss of step 20 was NaN" in done.stdout
    shown = fields(done.stdout)
    assert (shown["validation"], shown["test"]) == ("NaN", "NaN")
    assert math.isnan(load_run(folder / "gradience-demo").evaluations["test"][-1].metrics["loss"])
    assert "add --guard here, enable_guard=True in your own training" in " ".join(done.stdout.split())
    assert "demo --guard --inject-nan --inject-step 20 --max-steps 40 --seed 42" in done.stdout
    assert not (folder / "gradience-demo" / "summary.json").exists()


@pytest.mark.xdist_group("demo with a NaN")
def test_a_healthy_run_is_left_alone(saved_demo: Demo, tmp_path: Path) -> None:
    """Given the guard on and no fault, when the demo ran, then the guard did nothing, and says that."""
    done = demo(tmp_path, "--guard")
    assert "The guard was on, and had nothing to do." in done.stdout
    shown = fields(done.stdout)
    assert shown["integrity"].startswith("ok")
    assert "fault" not in shown
    assert summary_of(tmp_path)["guard"]["total_triggers"] == 0
    # the run that the saved one was shown beside, which has neither guard nor telemetry
    row = next(line.split() for line in reversed(saved_demo[1].stdout.splitlines()) if line.startswith("  test "))
    assert row[2] == shown["test"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--inject-step", "3"], "--inject-step says where --inject-nan strikes, and that was not given."),
        (["--guard", "--inject-step", "3"], "--inject-step says where --inject-nan strikes, and that was not given."),
        (["--inject-nan", "--inject-step", "161"], "--inject-step 161 is after the last step, 160."),
        (["--guard", "--inject-nan", "--inject-step", "0"], "Invalid value for '--inject-step'"),
    ],
)
def test_a_step_that_is_not_there_is_refused(options: list[str], sentence: str, tmp_path: Path) -> None:
    """Given a step that nothing strikes, when the demo is asked for it, then it exits 2 and says why."""
    done = python("-m", "gradience", "demo", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(("guarded", "nan_at"), [(True, 20), (True, None), (False, 20)])
def test_what_it_says_fits_the_terminal(width: int, guarded: bool, nan_at: int | None, tmp_path: Path) -> None:
    """Given a terminal, when a demo's outcome is laid out, then no line is wider, and each label keeps its distance."""
    from gradience_train.demo import DemoResult, FineTune

    run = FineTune(seconds=2.5, steps=40, train_loss=0.0, val_loss=math.nan, test_loss=math.nan)
    guard = GuardSummary(total_skips=1, total_recoveries=1, integrity_status="recovered", ms_per_step=0.4321)
    write_summary(
        tmp_path / "summary.json", run_id="r", telemetry="t", total_steps=40, final_loss=1.5, guard=guard.to_dict()
    )
    result = DemoResult(
        *(tmp_path,) * 5,
        summary=tmp_path / "summary.json" if guarded else None,
        run=run,
        without_fault=run if guarded and nan_at else None,
    )
    text = render_text(outcome_report(result, max_steps=40, nan_at=nan_at), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert fields(text)["duration"].startswith("2.5s for 40 steps")


@pytest.mark.parametrize(
    ("changes", "steps", "success", "words"),
    [
        ({"integrity_status": "recovered", "total_skips": 1}, 40, "yes", "got over the NaN of step 20"),
        ({"integrity_status": "aborted", "gave_up": "20 bad steps in a row"}, 39, "no", "20 bad steps in a row"),
        ({"integrity_status": "corrupted"}, 40, "no", "did not save the run: corrupted"),
        ({"integrity_status": "not_checked"}, 40, "no", "did not save the run: not_checked"),
    ],
)
def test_success_is_every_step_and_a_sound_state(
    changes: dict[str, Any], steps: int, success: str, words: str, tmp_path: Path
) -> None:
    """Given the guard's summary, when the outcome is told, then success needs all the steps and a finite state."""
    from gradience_train.demo import DemoResult, FineTune

    summary = tmp_path / "summary.json"
    write_summary(
        summary,
        run_id="r",
        telemetry="t",
        total_steps=steps,
        final_loss=math.nan,
        guard=GuardSummary(**changes).to_dict(),
    )
    run = FineTune(seconds=2.5, steps=steps, train_loss=None, val_loss=None, test_loss=None)
    result = DemoResult(*(tmp_path,) * 5, summary=summary, run=run, without_fault=None)
    report = outcome_report(result, max_steps=40, nan_at=20)
    text = render_text(report, width=120)
    assert words in report.verdict.text
    assert fields(text)["success"] == success
    assert fields(text)["training"] == "NaN"


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


def test_run_demo_refuses_a_fault_after_the_end(tmp_path: Path, run_demo: Callable[..., object]) -> None:
    """Given a fault that comes too late, when the demo is called from Python, then the error names both steps."""
    from gradience_train.faults import Fault, FaultKind

    with pytest.raises(ValueError, match="strikes at step 6, after the last step 5"):
        run_demo(tmp_path, max_steps=5, fault=Fault(FaultKind.NAN_LOSS, (6,)))


def test_the_command_and_the_function_have_the_same_defaults(run_demo: Callable[..., object]) -> None:
    """Given the command's options, when their defaults are read, then they are the function's."""
    command, function = (inspect.signature(each).parameters for each in (demo_command.demo, run_demo))
    assert all(command[name].default == function[name].default for name in ("max_steps", "seed"))


@pytest.fixture
def run_demo() -> Callable[..., object]:
    """Give the function; importing it loads torch, which the tests above do only in their own processes."""
    from gradience_train.demo import run_demo

    return run_demo
