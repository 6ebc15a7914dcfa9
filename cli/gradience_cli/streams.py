"""The three streams of a process: text to stdout, complaints to stderr, nothing after a closed pipe."""

from __future__ import annotations

import os
import sys

from gradience_analysis.errors import GradienceError


def write(text: str) -> None:
    """Text to stdout as it is; a reader that has gone away (`| head`) is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        forget_stdout()


def complain(error: GradienceError) -> None:
    """One line on stderr; text from files and paths cannot steer the terminal."""
    tell(str(error))


def tell(text: str) -> None:
    """The same for what is no fault: what a command did besides its report."""
    from gradience_analysis.render.inert import inert, plain_ascii

    line = inert(f"gradience: {text}")
    encoding = (sys.stderr.encoding or "ascii").lower().replace("-", "")
    sys.stderr.write((line if encoding == "utf8" else plain_ascii(line)) + "\n")


def finish(code: int) -> int:
    """Flush stdout, so that a reader that has gone away does not cause a message at exit; the code is kept."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        forget_stdout()
    return code


def forget_stdout() -> None:
    """Send what is still to come to nowhere: the interpreter flushes stdout once more at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
