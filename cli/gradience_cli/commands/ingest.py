"""`gradience ingest`: many runs into a Parquet store, of which only what is new or changed is read again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradience_cli.exits import CLEAN, FINDINGS, USAGE

if TYPE_CHECKING:
    from gradience_analysis.store import Ingested

EXAMPLE = "Example: gradience ingest outputs --store runs.store"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("ingest", epilog=EXAMPLE)(ingest)


def ingest(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...", help="Telemetry files, folders (every .jsonl and .jsonl.gz below), globs in quotes."
        ),
    ],
    *,
    store: Annotated[Path, typer.Option(metavar="DIR", help="The store's folder; made if there is none.")],
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that read. Default: one a processor, where there is much to read."),
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Read every file again, whether changed or not.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Drop the rows of files that are no longer there; else they are kept.")
    ] = False,
    fmt: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file in place of stdout.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stdout, only the exit code.")] = False,
) -> None:
    """Bring a Parquet store of many runs up to date."""
    from gradience_analysis.reports.ingest import ingest_report
    from gradience_analysis.store import ingest as bring_up_to_date
    from gradience_cli.output import chosen_format, emit
    from gradience_cli.progress import Progress
    from gradience_cli.streams import complain

    chosen = chosen_format(fmt, json=json)
    done = bring_up_to_date(
        paths,
        store,
        workers=workers,
        rebuild=rebuild,
        prune=prune,
        watch=Progress,
    )
    for error in done.unread:
        complain(error)
    emit(ingest_report(done, list_unread=output is not None), chosen, output=output, quiet=quiet)
    raise typer.Exit(_code(done))


def _code(done: Ingested) -> int:
    if done.unread:
        return USAGE
    return FINDINGS if done.files_refusing or done.files_without_events or done.lost else CLEAN
