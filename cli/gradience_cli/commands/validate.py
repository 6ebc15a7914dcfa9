"""`gradience validate`: whether files keep the telemetry/v1 contract."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradience_cli.exits import CLEAN, FINDINGS, USAGE

if TYPE_CHECKING:
    from gradience_analysis.errors import InputError
    from gradience_analysis.telemetry.validate import ValidationReport

EXAMPLE = "Example: gradience validate 'outputs/**/*.jsonl' --strict"
FORMATS = ("text", "json", "junit", "github", "sarif")
# What a person reads at once, what GitHub shows, and what a program is given.
_KEPT = {"text": 5, "github": 10}
_KEPT_FOR_PROGRAMS = 100


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("validate", epilog=EXAMPLE)(validate)


def validate(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Files, folders (every .jsonl and .jsonl.gz below), globs in quotes (** too), or - for stdin.",
        ),
    ],
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings and unknown events count as errors.")] = False,
    skip_rule: Annotated[
        list[str] | None,
        typer.Option("--skip-rule", metavar="CODE", help="Leave out this rule across lines; may be given again."),
    ] = None,
    no_cross_line: Annotated[
        bool, typer.Option("--no-cross-line", help="Check each line by itself; skip the rules that span lines.")
    ] = False,
    max_issues: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Issues kept of each code and file; all are counted. Default: 5 in text, 10 in github, else 100.",
        ),
    ] = None,
    fmt: Annotated[str, typer.Option("--format", help="text, json, junit, github or sarif.")] = "text",
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file in place of stdout.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stdout, only the exit code.")] = False,
) -> None:
    """Check telemetry files against the telemetry/v1 contract."""
    from gradience_analysis.reports.validate import validate_report
    from gradience_analysis.telemetry.paths import survey
    from gradience_cli.output import chosen_format, emit
    from gradience_cli.streams import complain

    chosen = chosen_format(fmt, json=json, formats=FORMATS)
    skipped = _rules(skip_rule or (), all_of_them=no_cross_line)
    keep = _KEPT.get(chosen, _KEPT_FOR_PROGRAMS) if max_issues is None else max_issues
    found = survey(paths)
    files, unreadable = _read(found.files, strict=strict, skipped=skipped, keep=keep)
    unreadable = [*found.errors, *unreadable]
    for error in unreadable:
        complain(error)
    # The complaints are all there is to say to a person; a program gets its document in any case.
    if files or chosen != "text":
        report = validate_report(
            files, unreadable, examples=keep, skipped_rules=skipped, list_unreadable=output is not None
        )
        emit(report, chosen, output=output, quiet=quiet)
    if unreadable:
        raise typer.Exit(USAGE)
    raise typer.Exit(CLEAN if all(file.ok for file in files) else FINDINGS)


def _rules(wanted: Iterable[str], *, all_of_them: bool) -> tuple[str, ...]:
    """Codes of the rules to leave out, in the order of the contract.

    Raises:
        GradienceError: There is no such rule.
    """
    from gradience_analysis.errors import GradienceError
    from gradience_analysis.telemetry.cross_line import CROSS_LINE_CODES

    names = set(wanted)
    for name in sorted(names - set(CROSS_LINE_CODES)):
        from gradience_analysis.model.near import did_you_mean

        message = f"--skip-rule {name[:80]!r}: there is no rule across lines of that code."
        hint = did_you_mean(name, CROSS_LINE_CODES)
        raise GradienceError(message, f"{hint} The rules: {', '.join(CROSS_LINE_CODES)}.".strip())
    return tuple(code for code in CROSS_LINE_CODES if all_of_them or code in names)


def _read(
    paths: Collection[Path], *, strict: bool, skipped: Collection[str], keep: int
) -> tuple[list[ValidationReport], list[InputError]]:
    """Each file held against the contract, and the errors of those that cannot be read."""
    from gradience_analysis.errors import InputError
    from gradience_analysis.telemetry import validate as reading
    from gradience_cli.progress import Progress

    files: list[ValidationReport] = []
    unreadable: list[InputError] = []
    with Progress("validating", len(paths)) as progress:
        for path in paths:
            progress.start(str(path))
            try:
                files.append(reading.validate(path, strict=strict, skip_rules=skipped, max_issues=keep))
            except InputError as error:
                unreadable.append(error)
    return files, unreadable
