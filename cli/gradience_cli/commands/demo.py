"""`gradience demo`: a real fine-tune, recorded and reported."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
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
    max_steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Optimizer steps of the fine-tune. Default: 160.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Decides the weights and the data.")] = 42,
    guard: Annotated[bool, typer.Option(help="Train with the guard on; not part of this version.")] = False,
    inject_nan: Annotated[
        bool, typer.Option("--inject-nan", help="Put a NaN into a step, for the guard; not part of this version.")
    ] = False,
    inject_step: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The step that --inject-nan spoils.")
    ] = None,
) -> None:
    """Fine-tune a tiny language model with LoRA, record it, and report it: half a minute, nothing downloaded."""
    from gradience_analysis.policy import load_policy
    from gradience_analysis.reports.monitor import monitor_report
    from gradience_analysis.telemetry.assemble import load_run
    from gradience_cli.output import emit, write

    _refuse_what_needs_the_guard(guard=guard, inject_nan=inject_nan, inject_step=inject_step)
    _require_the_training_libraries()
    _say("A tiny language model learns new facts by LoRA: half a minute, no download.")
    folder = _free_directory(out)
    _say(("" if folder == out else f"{out} exists and stays as it is. ") + f"Writing to {folder}")
    with _progress() as tell:
        tell("loading", 0, 1)
        train = _training()
        tell("loading", 1, 1)
        steps = {} if max_steps is None else {"max_steps": max_steps}
        result = train(folder, seed=seed, on_progress=tell, **steps)
    _say("")
    emit(monitor_report([load_run(str(result.telemetry))], load_policy()), "text")
    write(_next_commands(result))


def _refuse_what_needs_the_guard(*, guard: bool, inject_nan: bool, inject_step: int | None) -> None:
    from gradience_analysis.errors import GradienceError
    from gradience_emit.hf.config import GradienceCallbackConfig, GuardNotAvailableError

    given = {"--guard": guard, "--inject-nan": inject_nan, "--inject-step": inject_step is not None}
    flags = [flag for flag, on in given.items() if on]
    try:
        GradienceCallbackConfig(enable_guard=bool(flags))
    except GuardNotAvailableError as error:
        raise GradienceError(str(error), f"Run the demo without {' and '.join(flags)}.") from error


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


def _training() -> Callable[..., DemoResult]:
    """The training side, imported after the process was taken off the network."""
    from gradience_train.offline import offline_and_quiet

    offline_and_quiet()
    from gradience_train.demo import run_demo

    return run_demo


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
        TextColumn("{task.description:<11}"),
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


def _next_commands(result: DemoResult) -> str:
    program = _program()
    folder, telemetry, adapter, base, arguments = (
        shlex.quote(str(path))
        for path in (result.out_dir, result.telemetry, result.adapter, result.base, result.training_args)
    )
    commands = (
        f"monitor {folder} --verbose",
        f"report {folder} -o report.html",
        f"check --peft-dir {adapter} --training {arguments}",
        f"audit {adapter} --base-model {base}",
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
