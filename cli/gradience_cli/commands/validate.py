"""`gradience validate`: whether files keep the telemetry/v1 contract."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradience_cli.exits import CLEAN, FINDINGS, USAGE

if TYPE_CHECKING:
    from gradience_analysis.telemetry.validate import ValidationReport

EXAMPLE = "Example: gradience validate outputs/run.jsonl --strict"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("validate", epilog=EXAMPLE)(validate)


def validate(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Telemetry files.")],
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings and unknown events count as errors.")] = False,
    no_cross_line: Annotated[
        bool, typer.Option("--no-cross-line", help="Check each line by itself; skip the rules that span lines.")
    ] = False,
    max_issues: Annotated[int, typer.Option(min=0, help="Issues kept for each code; all of them are counted.")] = 100,
    fmt: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file in place of stdout.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stdout, only the exit code.")] = False,
) -> None:
    """Check telemetry files against the telemetry/v1 contract."""
    from gradience_analysis.errors import GradienceError
    from gradience_analysis.reports.validate import validate_report
    from gradience_analysis.telemetry import validate as reading
    from gradience_cli.output import chosen_format, emit
    from gradience_cli.streams import complain

    chosen = chosen_format(fmt, json=json)
    files: list[ValidationReport] = []
    for path in paths:
        try:
            files.append(reading.validate(path, strict=strict, cross_line=not no_cross_line, max_issues=max_issues))
        except GradienceError as error:
            complain(error)
    if files:
        emit(validate_report(files), chosen, output=output, quiet=quiet)
    if len(files) < len(paths):
        raise typer.Exit(USAGE)
    raise typer.Exit(CLEAN if all(file.ok for file in files) else FINDINGS)
