"""`gradience demo`: a real fine-tune, recorded and reported."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gradience_train.demo import DemoResult, Progress

EXAMPLE = "Example: gradience demo --out my-demo"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("demo", epilog=EXAMPLE)(demo)


def demo(
    *,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where to write; the next free name when it is taken.")
    ] = Path("gradience-demo"),
    max_steps: Annotated[int, typer.Option(min=1, metavar="N", help="Optimizer steps of the fine-tune.")] = 160,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Decides the weights and the data.")] = 42,
    guard: Annotated[bool, typer.Option("--guard", help="Train with the guard on (experimental).")] = False,
    inject_nan: Annotated[
        bool, typer.Option("--inject-nan", help="Make the loss of one step NaN; try it with --guard and without.")
    ] = False,
    inject_step: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The step that --inject-nan spoils. Default: the middle.")
    ] = None,
) -> None:
    """Fine-tune a tiny language model with LoRA, record it, and report it: half a minute, nothing downloaded."""
    from gradience_analysis.policy import load_policy
    from gradience_analysis.reports.monitor import monitor_report
    from gradience_analysis.telemetry.assemble import load_run
    from gradience_cli.demo_outcome import outcome_report
    from gradience_cli.output import emit, write

    nan_at = _step_to_spoil(inject_step, inject_nan=inject_nan, max_steps=max_steps)
    _require_the_training_libraries()
    _say("A tiny language model learns new facts by LoRA: half a minute, no download.")
    folder = _free_directory(out)
    _say(("" if folder == out else f"{out} exists and stays as it is. ") + f"Writing to {folder}")
    with _progress() as tell:
        tell("loading", 0, 1)
        train = _training(nan_at)
        tell("loading", 1, 1)
        result = train(folder, max_steps=max_steps, seed=seed, enable_guard=guard, on_progress=tell)
    _say("")
    emit(monitor_report([load_run(str(result.telemetry))], load_policy()), "text")
    if guard or inject_nan:
        write("\n")
        emit(outcome_report(result, max_steps=max_steps, nan_at=nan_at), "text")
    again = [] if guard or nan_at is None else _guarded_again(nan_at, max_steps=max_steps, seed=seed)
    write(_next_commands(result, again))


def _step_to_spoil(wanted: int | None, *, inject_nan: bool, max_steps: int) -> int | None:
    """The step that the NaN goes into; None without one.

    Raises:
        GradienceError: A step was named that is not there, or without --inject-nan.
    """
    from gradience_analysis.errors import GradienceError

    if wanted is not None and not inject_nan:
        raise GradienceError("--inject-step says where --inject-nan strikes, and that was not given.", "Add it.")
    if not inject_nan:
        return None
    if wanted is not None and wanted > max_steps:
        raise GradienceError(f"--inject-step {wanted} is after the last step, {max_steps}.", "Name an earlier one.")
    return wanted or (max_steps + 1) // 2


def _free_directory(wanted: Path) -> Path:
    """Create `wanted`, or the first of `wanted-2`, `wanted-3`, … that does not exist yet or is empty.

    Raises:
        InputError: It cannot be created.
    """
    from gradience_analysis.errors import InputError

    if not wanted.name:  # "." has no name to number
        wanted = wanted.resolve()
    candidate, number = wanted, 1
    while candidate.exists() and not (candidate.is_dir() and not any(candidate.iterdir())):
        number += 1
        candidate = wanted.parent / f"{wanted.name}-{number}"
    try:
        candidate.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(str(candidate), f"cannot be created: {error.strerror}.") from error
    return candidate


def _require_the_training_libraries() -> None:
    from gradience_analysis.errors import GradienceError

    for library in ("torch", "transformers", "peft"):
        if importlib.util.find_spec(library) is None:
            message = f"The demo trains a model and needs {library}, which is not installed."
            raise GradienceError(message, "Install it with: pip install 'gradience[train]'")


def _training(nan_at: int | None) -> Callable[..., DemoResult]:
    """The training side, imported after the process was taken off the network; with a NaN at that step."""
    from gradience_train.offline import offline_and_quiet

    offline_and_quiet()
    from gradience_train.demo import run_demo
    from gradience_train.faults import Fault, FaultKind

    return partial(run_demo, fault=None if nan_at is None else Fault(FaultKind.NAN_LOSS, (nan_at,)))


def _say(line: str) -> None:
    from gradience_analysis.render.inert import inert

    typer.echo(inert(line), err=True)


@contextmanager
def _progress() -> Generator[Progress]:
    """A bar per phase on a terminal, one line per phase elsewhere; both on stderr."""
    if not sys.stderr.isatty():
        yield lambda phase, done, total: _say(f"  {phase}") if done == total else None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns: tuple[Any, ...] = (
        TextColumn("{task.description:<13}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def tell(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, total=total)
            bars.update(tasks[phase], completed=done)

        yield tell


def _guarded_again(nan_at: int, *, max_steps: int, seed: int) -> list[str]:
    """The command of the same demo with the guard on."""
    return [f"demo --guard --inject-nan --inject-step {nan_at} --max-steps {max_steps} --seed {seed}"]


def _next_commands(result: DemoResult, again: list[str]) -> str:
    program = _program()
    folder, telemetry, adapter, base, arguments = (
        shlex.quote(str(path))
        for path in (result.out_dir, result.telemetry, result.adapter, result.base, result.training_args)
    )
    adapter_commands = [f"check --peft-dir {adapter} --training {arguments}", f"audit {adapter} --base-model {base}"]
    commands = (
        f"monitor {folder} --verbose",
        f"report {folder} -o report.html",
        *(again or adapter_commands),  # of a run that a NaN has ruined, nobody needs the adapter
        f"validate {telemetry}",
        "schema show train_step",
    )
    lines = [f"  {program} {command}" for command in commands]
    return "\n".join(["", f"Adapter: {result.adapter}  Base model: {result.base}", "Try next:", *lines, ""])


def _program() -> str:
    """How this command line is called: by name when that is on the path, else beside this Python, else as a module."""
    if shutil.which("gradience"):
        return "gradience"
    python = Path(sys.executable)
    script = python.with_name("gradience")
    if script.exists():
        return _from_here(script)
    found = shutil.which("python")
    return f"{'python' if found and Path(found) == python else _from_here(python)} -m gradience"


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
