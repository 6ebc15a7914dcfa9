"""`gradience monitor`: what recorded runs show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradience_cli.exits import USAGE
from gradience_cli.options import Format, GapThreshold, Json, Output, PolicyFile, Quiet, Runs, Verbose, exit_code

if TYPE_CHECKING:
    from gradience_analysis.model import Report

EXAMPLE = "Example: gradience monitor outputs/run.jsonl --fail-on error"
FORMATS = ("text", "json", "md", "html")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("monitor", epilog=EXAMPLE)(monitor)


def monitor(
    runs: Runs,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Stay with one run while it is written, until its run_end.")
    ] = False,
    fmt: Format = "text",
    json: Json = False,
    verbose: Verbose = False,
    gap_threshold: GapThreshold = None,
    policy: PolicyFile = None,
    strict_schema: Annotated[
        bool, typer.Option("--strict-schema", help="Refuse (exit 2) a file with schema errors or warnings.")
    ] = False,
    fail_on: Annotated[
        str | None,
        typer.Option(metavar="error|warning", help="Exit 1 when there are findings of this severity or worse."),
    ] = None,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Report what recorded training runs show."""
    from gradience_analysis.errors import GradienceError
    from gradience_cli.loading import load_all
    from gradience_cli.output import chosen_format, emit
    from gradience_cli.settings import load_settings

    chosen = chosen_format(fmt, json=json, formats=FORMATS)
    settings = load_settings()
    level = settings.fail_on(fail_on)
    limits = settings.policy(policy, gap_threshold)
    if follow:
        if len(runs) != 1 or chosen != "text" or output is not None or quiet or strict_schema:
            raise GradienceError(
                "--follow takes one run and shows it on the terminal.",
                "Leave out --format, --json, --output, --quiet and --strict-schema, or --follow.",
            )
        from gradience_cli.following import follow_run

        report = follow_run(runs[0], limits, verbose=verbose)
        raise typer.Exit(exit_code(_findings(report), level))
    from gradience_analysis.reports.monitor import monitor_report

    loaded, failed = load_all(runs, strict=strict_schema)
    if not loaded:
        raise typer.Exit(USAGE)
    report = monitor_report(loaded, limits, verbose=verbose, page=chosen == "html")
    emit(report, chosen, output=output, quiet=quiet)
    raise typer.Exit(USAGE if failed else exit_code(_findings(report), level))


def _findings(report: Report) -> list[dict[str, Any]]:
    return [finding for run in report.data["runs"] for finding in run["findings"]]
