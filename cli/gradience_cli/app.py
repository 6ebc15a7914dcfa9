"""The typer application: the commands in one tuple, the exit codes in one place."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Annotated

import typer

from gradience_cli.exits import USAGE

COMMANDS = (
    "demo",
    "monitor",
    "report",
    "check",
    "audit",
    "compress",
    "validate",
    "runs",
    "ingest",
    "import_",
    "guard",
    "schema",
    "config",
)
"""Modules of `gradience_cli.commands`, in the order of `--help`. Each has `register(app)`."""


def _version(wanted: bool) -> None:
    if wanted:
        from gradience_cli.version import version_line

        typer.echo(version_line())
        raise typer.Exit


def build() -> typer.Typer:
    """The application with every command registered."""
    # Plain help: typer's rich help takes longer to import than the whole command line may take to start.
    app = typer.Typer(
        name="gradience",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def gradience(
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
        ] = False,
    ) -> None:
        """Flight recorder and mechanic for LoRA training: read a recorded run and say what its numbers show."""

    del gradience
    for name in COMMANDS:
        importlib.import_module(f"gradience_cli.commands.{name}").register(app)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code.

    A `GradienceError` is a fault of the input: one sentence on stderr, exit code 2. Anything else is a bug
    and keeps its traceback.
    """
    from gradience_analysis.errors import GradienceError
    from gradience_cli.streams import complain, finish

    try:
        build()(list(arguments), prog_name="gradience")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else USAGE if stop.code else 0
        return finish(code)
    except GradienceError as error:
        complain(error)
        return finish(USAGE)
    return finish(0)
