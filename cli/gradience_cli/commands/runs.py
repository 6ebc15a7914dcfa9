"""`gradience runs`: many runs as a table."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradience_cli.exits import CLEAN, USAGE

if TYPE_CHECKING:
    from gradience_analysis.errors import InputError
    from gradience_analysis.runs import Runs

EXAMPLE = "Example: gradience runs outputs --where 'lora.r == 8 and status == \"ok\"' --sort val.loss.best --limit 10"
FORMATS = ("text", "csv", "json")
_COMPLAINTS = 10


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("runs", epilog=EXAMPLE)(runs)


def runs(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="DIR|STORE...", help="Folders (every run below), files, globs in quotes, or stores."),
    ],
    *,
    where: Annotated[
        str | None,
        typer.Option(metavar="EXPR", help="Only runs of which this is true, such as 'optimizer.lr < 1e-3'."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="C,...", help="Columns to show; --format csv shows every one there is.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="C", help="Order by this column; -C for the highest first.")
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=0, help="Only the first N, after sorting.")] = None,
    fmt: Annotated[str, typer.Option("--format", help="text, csv or json.")] = "text",
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Processes to read with. Default: by the size of the input.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file in place of stdout.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stdout, only the exit code.")] = False,
) -> None:
    """Show many runs as a table: settings, status, final and best values, findings."""
    from gradience_analysis.reports.runs import runs_csv, runs_report
    from gradience_analysis.runs import load_runs
    from gradience_cli.output import chosen_format, emit

    chosen = chosen_format(fmt, json=json, formats=FORMATS)
    loaded = load_runs(paths, workers=workers)
    names = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
    table = _table(loaded if where is None else loaded.query(where), names, sort, limit)
    _complain(loaded.failures)
    if chosen == "csv":
        _write_csv(runs_csv(table, names), output, quiet=quiet)
    else:
        report = runs_report(
            table,
            loaded.failures,
            total=len(loaded),
            columns=names,
            where=where,
            sort=None if sort is None else sort.removeprefix("-"),
            width=_width(output),
        )
        emit(report, chosen, output=output, quiet=quiet)
    raise typer.Exit(USAGE if _unreadable(loaded.failures, paths) else CLEAN)


def _table(chosen: Runs, columns: Sequence[str] | None, sort: str | None, limit: int | None) -> Any:
    """The rows to show: all columns, or those asked for and what else the sorting and the verdict need."""
    from gradience_analysis.runs.ordering import sorted_by

    key = None if sort is None else sort.removeprefix("-")
    if key is not None:
        # Asked for by name, so that an unknown one gets its sentence.
        chosen.table([key])
    more = ["status"] if key is None else [key, "status"]
    table = chosen.table(None if columns is None else list(dict.fromkeys([*columns, *more])))
    if key is not None:
        table = sorted_by(table, key, descending=str(sort).startswith("-"))
    return table if limit is None else table.slice(0, limit)


def _complain(failures: Sequence[InputError]) -> None:
    from gradience_analysis.errors import GradienceError
    from gradience_cli.streams import complain

    for error in failures[:_COMPLAINTS]:
        complain(error)
    if len(failures) > _COMPLAINTS:
        complain(GradienceError(f"and {len(failures) - _COMPLAINTS:,} more that could not be read (--json lists all)."))


def _unreadable(failures: Sequence[InputError], paths: Sequence[str]) -> bool:
    """Whether something was asked for in vain; that a folder also holds files of other kinds is no fault."""
    from gradience_analysis.errors import NoTelemetryError

    named = {*paths, *(str(Path(path)) for path in paths)}
    return any(error.path in named or not isinstance(error, NoTelemetryError) for error in failures)


def _width(output: Path | None) -> int:
    """Columns that the report will have: those of the file, of the terminal, or of a pipe, which has no width."""
    from gradience_cli.output import FILE_WIDTH
    from gradience_cli.terminal import PIPE_WIDTH

    if output is not None:
        return FILE_WIDTH
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    return PIPE_WIDTH


def _write_csv(text: str, output: Path | None, *, quiet: bool) -> None:
    from gradience_analysis.errors import InputError
    from gradience_analysis.render.inert import inert
    from gradience_cli.output import write

    if output is not None:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(str(output), f"cannot be written: {error.strerror}.") from error
    elif not quiet:
        # Text from files cannot steer a terminal; a pipe gets it as it is.
        write("".join(f"{inert(line)}\n" for line in text.splitlines()) if sys.stdout.isatty() else text)
