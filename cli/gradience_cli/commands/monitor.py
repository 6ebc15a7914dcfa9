"""`gradience monitor`: what recorded runs show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradience_cli.exits import CLEAN, FINDINGS, USAGE

if TYPE_CHECKING:
    from gradience_analysis.model import Report, Run

EXAMPLE = "Example: gradience monitor outputs/run.jsonl --fail-on error"
_LEVELS = {"error": ("error", "critical"), "warning": ("warning", "error", "critical")}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("monitor", epilog=EXAMPLE)(monitor)


def monitor(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN|DIR...", help="Telemetry files, or directories with a run's segments.")
    ],
    *,
    fmt: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Add evidence, confidence, every metric and every issue.")
    ] = False,
    gap_threshold: Annotated[
        float | None, typer.Option(help="Generalization gap above which there is a finding. Default: 1.5.")
    ] = None,
    strict_schema: Annotated[
        bool, typer.Option("--strict-schema", help="Refuse (exit 2) a file with schema errors or warnings.")
    ] = False,
    fail_on: Annotated[
        str | None,
        typer.Option(metavar="error|warning", help="Exit 1 when there are findings of this severity or worse."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file in place of stdout.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stdout, only the exit code.")] = False,
) -> None:
    """Report what recorded training runs show."""
    from gradience_analysis.errors import GradienceError
    from gradience_analysis.policy import load_policy
    from gradience_analysis.reports.monitor import monitor_report
    from gradience_cli.output import chosen_format, emit
    from gradience_cli.streams import complain

    chosen = chosen_format(fmt, json=json)
    if fail_on is not None and fail_on not in _LEVELS:
        raise GradienceError(f"--fail-on takes error or warning, not {fail_on!r}.")
    policy = load_policy() if gap_threshold is None else load_policy().with_gap_threshold(gap_threshold)
    loaded: list[Run] = []
    for path in runs:
        try:
            loaded.append(_load(path, strict=strict_schema))
        except GradienceError as error:
            complain(error)
    if not loaded:
        raise typer.Exit(USAGE)
    report = monitor_report(loaded, policy, verbose=verbose)
    emit(report, chosen, output=output, quiet=quiet)
    raise typer.Exit(USAGE if len(loaded) < len(runs) else _code(report, fail_on))


def _load(path: str, *, strict: bool) -> Run:
    from gradience_analysis.errors import SchemaViolationError
    from gradience_analysis.telemetry.assemble import load_run
    from gradience_schema import Severity

    run = load_run(path, strict=strict)
    if strict:
        for issue in run.issues:
            if issue.severity is Severity.ERROR:
                raise SchemaViolationError(issue.path, issue.line, issue.message)
    return run


def _code(report: Report, fail_on: str | None) -> int:
    levels = _LEVELS.get(fail_on or "", ())
    found = [finding["severity"] for run in report.data["runs"] for finding in run["findings"]]
    return FINDINGS if any(severity in levels for severity in found) else CLEAN
