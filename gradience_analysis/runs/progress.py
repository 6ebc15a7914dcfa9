"""How far a long read is: one line on stderr, when a person is watching and it takes longer than two seconds."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import Final, TypeAlias

DELAY_S: Final = 2.0
_WIDTH: Final = 30
_CLEAR: Final = "\r\x1b[2K"

ProgressOption: TypeAlias = "bool | Callable[[int, int], None] | None"


class Bar:
    """A bar such as `reading runs  ██████────  12 of 40`.

    Args:
        doing: What is done, in words.
        option: None shows the bar when stderr is a terminal, False never, True always; a function is called in its
            place with what is done and what there is.
    """

    def __init__(self, doing: str, option: ProgressOption) -> None:
        self._doing = doing
        self._tell = option if callable(option) else None
        watched = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = self._tell is None and (watched if option is None else bool(option))
        self._began = time.monotonic()
        self._drawn = False

    def advance(self, done: int, total: int) -> None:
        """So many of so many are done; the bar goes away with the last."""
        if self._tell is not None:
            self._tell(done, total)
        elif self._shown and done < total and time.monotonic() - self._began > DELAY_S:
            self._write(_CLEAR + self._line(done, total))
            self._drawn = True
        elif self._drawn:
            self._write(_CLEAR)
            self._drawn = False

    def _line(self, done: int, total: int) -> str:
        full = done * _WIDTH // total
        unicode = (sys.stderr.encoding or "ascii").lower().startswith("utf")
        bar = ("█" if unicode else "#") * full + ("─" if unicode else "-") * (_WIDTH - full)
        return f"{self._doing}  {bar}  {done:,} of {total:,}"[: shutil.get_terminal_size().columns - 1]

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
