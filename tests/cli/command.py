"""Runs the command line: in this process, or as users do in one of its own where the process is what is tested."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from gradience_cli.app import run


@dataclass(frozen=True)
class Result:
    """What a command line left."""

    returncode: int
    stdout: str
    stderr: str


def gradience(*arguments: str | Path) -> Result:
    """`gradience ARGUMENTS` in this process, without a terminal."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8"))  # type: ignore[attr-defined]
    return Result(code, *texts)


def in_own_process(*arguments: str | Path, **variables: str) -> Result:
    """The same as a process with these environment variables."""
    done = subprocess.run(
        [sys.executable, "-m", "gradience_cli", *map(str, arguments)],
        capture_output=True,
        check=False,
        encoding="utf-8",
        env=environment(**variables),
        timeout=60,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def environment(**variables: str) -> dict[str, str]:
    """The environment of a UTF-8 session without a terminal that sees the packages this Python sees."""
    dropped = {"COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONUTF8": "1"} | variables
