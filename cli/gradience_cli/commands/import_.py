"""`gradience import`: a training log of another tool as telemetry/v1."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradience_cli.exits import CLEAN, FINDINGS

if TYPE_CHECKING:
    from gradience_analysis.importers import Importer

EXAMPLE = "Example: gradience import outputs/trainer_state.json --out run.jsonl"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("import", epilog=EXAMPLE)(import_)


def import_(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="A training log of another tool, gzip or not.")],
    *,
    out: Annotated[
        Path,
        typer.Option(help="Telemetry file to write; later segments of the run get run.1.jsonl, run.2.jsonl."),
    ],
    source_format: Annotated[
        str | None, typer.Option("--from", metavar="FORMAT", help="Format of the log. Default: recognised by content.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    fmt: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stdout, only the exit code.")] = False,
) -> None:
    """Turn a training log of another tool into telemetry/v1."""
    from gradience_analysis.reports.imported import import_report
    from gradience_cli.importing import import_log
    from gradience_cli.output import chosen_format, emit
    from gradience_cli.progress import Progress

    chosen = chosen_format(fmt, json=json)
    importer = _importer(log, source_format)
    with Progress("importing", 1) as progress:
        progress.start(str(log))
        imported = import_log(log, importer, out, force=force)
    emit(import_report(imported), chosen, quiet=quiet)
    raise typer.Exit(CLEAN if imported.ok else FINDINGS)


def _importer(log: Path, name: str | None) -> Importer:
    from gradience_analysis.errors import GradienceError, InputError
    from gradience_analysis.importers import find_importer, importer_named, importer_names
    from gradience_analysis.sources.opening import STDIN, open_regular
    from gradience_cli.streams import complain
    from gradience_schema import SCHEMA_ID

    if str(log) == STDIN:
        raise GradienceError("A log cannot be imported from standard input.", "Write it to a file and give that.")
    if name is not None:
        return importer_named(name)
    found = find_importer(log, report=lambda issue: complain(GradienceError(issue.message)))
    if found is not None:
        return found
    with open_regular(log) as file:
        if SCHEMA_ID.encode() in file.readline(1 << 16):
            raise InputError(str(log), "is telemetry/v1 already: there is nothing to import.")
    formats = ", ".join(importer_names())
    raise InputError(str(log), "is of no format that can be imported.", f"Name its format with --from: {formats}.")
