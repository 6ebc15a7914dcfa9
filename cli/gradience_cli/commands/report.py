"""`gradience report`: what recorded runs show, as one file to keep or to send."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradience_cli.exits import CLEAN, USAGE
from gradience_cli.options import GapThreshold, PolicyFile, Quiet, Runs, Verbose

if TYPE_CHECKING:
    from gradience_analysis.model import Report

EXAMPLE = "Example: gradience report outputs/run.jsonl -o report.html"
FORMATS = ("html", "md")
_NAME = "report"
_HEAD_BYTES = 1_000


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("report", epilog=EXAMPLE)(report)


def report(
    runs: Runs,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The file. Default: report.html.")
    ] = None,
    fmt: Annotated[
        str | None, typer.Option("--format", help="html or md. Default: by the name of the file, else html.")
    ] = None,
    verbose: Verbose = False,
    gap_threshold: GapThreshold = None,
    policy: PolicyFile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is no report of Gradience.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write what recorded runs show as one self-contained page: curves, findings, evaluations, configuration."""
    from gradience_analysis.render import RENDERERS
    from gradience_analysis.reports.monitor import monitor_report
    from gradience_cli.loading import load_all
    from gradience_cli.settings import load_settings

    chosen = _format(fmt, output)
    target = Path(f"{_NAME}.{chosen}") if output is None else output
    _check(target, runs, force=force)
    limits = load_settings().policy(policy, gap_threshold)
    loaded, failed = load_all(runs)
    if not loaded:
        raise typer.Exit(USAGE)
    made = monitor_report(loaded, limits, verbose=verbose, page=chosen == "html")
    text = RENDERERS[chosen](made)
    _write(target, text.encode())
    _say(made, target, len(text), quiet=quiet)
    raise typer.Exit(USAGE if failed else CLEAN)


def _format(name: str | None, output: Path | None) -> str:
    from gradience_cli.output import chosen_format

    if name is None:
        return "md" if output is not None and output.suffix.lower() in {".md", ".markdown"} else "html"
    return chosen_format(name, json=False, formats=FORMATS)


def _check(target: Path, runs: Sequence[str], *, force: bool) -> None:
    """Refuse to write over what is no report, before anything is read.

    Raises:
        InputError: The file is one of the runs, is no regular file, or holds something else and `force` is not given.
    """
    from gradience_analysis.errors import InputError

    if not target.exists():
        return
    if not target.is_file():
        raise InputError(str(target), "is no regular file.", "`gradience monitor --format html` writes to stdout.")
    if any(Path(run).exists() and target.samefile(run) for run in runs):
        raise InputError(str(target), "is one of the runs to report on.", "Give another name with -o.")
    if not force and not _is_a_report(target):
        raise InputError(str(target), "exists and is no report of Gradience.", "Give another name, or --force.")


def _is_a_report(path: Path) -> bool:
    """Whether a file is one that may be written over: a page or a text of ours, or nothing at all."""
    from gradience_analysis.render.html import GENERATOR
    from gradience_analysis.render.markdown import MARKER

    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return not head or GENERATOR.encode() in head or head.startswith(MARKER.partition("{")[0].encode())


def _write(target: Path, content: bytes) -> None:
    """Write beside the place and rename, so that a file is there whole or not at all.

    Raises:
        InputError: It cannot be written.
    """
    from gradience_analysis.errors import InputError

    # A link stays one: what it points to is replaced.
    place = target.resolve()
    aside = place.with_name(f".{place.name}.{os.getpid()}.partial")
    try:
        aside.write_bytes(content)
        aside.replace(place)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise InputError(str(target), f"cannot be written: {error.strerror}.") from error


def _say(made: Report, target: Path, size: int, *, quiet: bool) -> None:
    """The verdict, and where the rest is."""
    from gradience_analysis.model import Field, Fields, Report, Section
    from gradience_cli.output import emit

    written = Field("Written to", f"{target} ({size / 1000:,.0f} kB)")
    told = Report("report", str(target), made.verdict, (Section("", (Fields((written,)),)),))
    emit(told, "text", quiet=quiet)
