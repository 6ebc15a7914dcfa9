"""Options that mean the same in every command that has them, and what follows from `--fail-on`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gradience_cli.exits import CLEAN, FINDINGS
from gradience_cli.settings import FAIL_LEVELS

Runs = Annotated[
    list[str],
    typer.Argument(metavar="RUN|DIR...", help="Telemetry files, or folders: every run in them or below them."),
]
Json = Annotated[bool, typer.Option("--json", help="The same as --format json.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Add evidence, confidence, every metric and every issue.")
]
GapThreshold = Annotated[
    float | None, typer.Option(help="Generalization gap above which there is a finding. Default: 1.5.")
]
PolicyFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Thresholds to judge by, in place of the shipped ones.")
]
FailOn = Annotated[
    str | None,
    typer.Option(metavar="error|warning", help="Exit 1 when there are findings of this severity or worse. [error]"),
]
Format = Annotated[str, typer.Option("--format", help="text, json, md or html.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file in place of stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stdout, only the exit code.")]


def exit_code(findings: Iterable[Mapping[str, Any]], fail_on: str | None) -> int:
    """1 when one of the findings has the severity to fail on, or a worse one; else 0."""
    levels = FAIL_LEVELS.get(fail_on or "", ())
    return FINDINGS if any(finding["severity"] in levels for finding in findings) else CLEAN
