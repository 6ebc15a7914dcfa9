"""Where a report goes: to stdout or to a file, in the format that was asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from gradience_analysis.errors import GradienceError, InputError
from gradience_analysis.model import Report
from gradience_analysis.render import RENDERERS
from gradience_analysis.render.inert import plain_ascii
from gradience_cli.streams import forget_stdout, write

__all__ = ["FILE_WIDTH", "FORMATS", "chosen_format", "emit", "write"]

FORMATS = ("text", "json")
"""What a command offers that names no formats of its own."""
FILE_WIDTH = 120


def chosen_format(name: str, *, json: bool, formats: Sequence[str] = FORMATS) -> str:
    """The format that `--format` and `--json` ask for.

    Args:
        name: The value of `--format`.
        json: Whether `--json` was given.
        formats: The formats that the command offers.

    Raises:
        GradienceError: The command has no such format.
    """
    wanted = "json" if json else name
    if wanted not in formats:
        raise GradienceError(f"There is no format {name!r} here.", f"Formats: {', '.join(formats)}.")
    return wanted


def emit(report: Report, fmt: str, *, output: Path | None = None, quiet: bool = False) -> None:
    """Write a report to a file, or to stdout unless `quiet`.

    Raises:
        InputError: The file cannot be written.
    """
    if output is not None:
        text = _to_file(report, fmt)
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(str(output), f"cannot be written: {error.strerror}.") from error
    elif not quiet:
        write(_for_stdout(RENDERERS[fmt](report))) if fmt in RENDERERS else _to_terminal(report)


def _to_file(report: Report, fmt: str) -> str:
    if fmt in RENDERERS:
        return RENDERERS[fmt](report)
    from gradience_cli.terminal import render_text

    return render_text(report, width=FILE_WIDTH)


def _for_stdout(text: str) -> str:
    """The text, in ASCII where stdout can show no more."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return plain_ascii(text)
    return text


def _to_terminal(report: Report) -> None:
    from gradience_cli.terminal import print_report

    try:
        print_report(report)
    except BrokenPipeError:
        forget_stdout()
