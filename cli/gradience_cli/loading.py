"""The runs that paths stand for, loaded one after the other; what cannot be read is said on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradience_analysis.model import Run
    from gradience_analysis.telemetry.discover import Found


def load_all(paths: Sequence[str], *, strict: bool = False) -> tuple[list[Run], int]:
    """Every run of every path, and how many paths and runs could not be read; each of those is complained about.

    Args:
        paths: Files and folders.
        strict: Refuse a file with schema errors or warnings.
    """
    from gradience_analysis.errors import GradienceError
    from gradience_analysis.telemetry.discover import discover
    from gradience_cli.progress import Progress
    from gradience_cli.streams import complain

    found: list[Found] = []
    failed = 0
    for path in paths:
        try:
            found += discover(path)
        except GradienceError as error:
            complain(error)
            failed += 1
    loaded: list[Run] = []
    with Progress("reading", len(found)) as progress:
        for one in found:
            progress.start(one.path)
            try:
                loaded.append(_load(one, strict=strict))
            except GradienceError as error:
                complain(error)
                failed += 1
    return loaded, failed


def _load(found: Found, *, strict: bool) -> Run:
    from gradience_analysis.errors import SchemaViolationError
    from gradience_analysis.telemetry.assemble import load_run
    from gradience_schema import Severity

    run = load_run(found.path, run_id=found.run_id, strict=strict)
    if strict:
        for issue in run.issues:
            if issue.severity is Severity.ERROR:
                raise SchemaViolationError(issue.path, issue.line, issue.message)
    # A file may hold several runs of a folder: then the path alone would not tell which one this is.
    return run if found.run_id is None else replace(run, path=f"{found.path} ({found.run_id[:80]})")
