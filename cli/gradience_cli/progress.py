"""How far a long piece of work is: one line on stderr, after two seconds, when a person is watching."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from types import TracebackType
from typing import Self

from gradience_analysis.render.inert import inert, plain_ascii

DELAY_S = 2.0
_EVERY_S = 0.2
_CLEAR = "\r\x1b[2K"


class Progress:
    """Shows `validating 3 of 500 · outputs/a/run.jsonl · 12 s` while it is open.

    A thread draws the line, so that it moves while one file takes long. Nothing is written when stderr is not a
    terminal, and nothing before `delay_s` has passed.

    Args:
        doing: What is done, such as `validating`.
        total: How many things there are.
        delay_s: Seconds of silence before the line appears.
    """

    def __init__(self, doing: str, total: int, *, delay_s: float = DELAY_S) -> None:
        self._doing = doing
        self._total = total
        self._delay_s = delay_s
        self._at = 0
        self._name = ""
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            self._thread = threading.Thread(target=self._draw, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def start(self, name: str) -> None:
        """The next thing has begun."""
        self._at += 1
        self._name = name

    def line(self, width: int) -> str:
        """The line as it would be drawn now, at most `width` characters of which none steers the terminal."""
        name, seconds = inert(self._name), time.monotonic() - self._began
        text = f"{self._doing} {self._at:,} of {self._total:,} · {name} · {seconds:.0f} s"
        over = len(text) - width
        if over > 0:
            # The end of a path says more than its beginning.
            text = f"{self._doing} {self._at:,} of {self._total:,} · …{name[over + 1 :]} · {seconds:.0f} s"
        text = text[:width]
        return text if (sys.stderr.encoding or "ascii").lower().startswith("utf") else plain_ascii(text)[:width]

    def _draw(self) -> None:
        if self._over.wait(self._delay_s):
            return
        while True:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"{_CLEAR}{self.line(width)}")
            sys.stderr.flush()
            if self._over.wait(_EVERY_S):
                break
        sys.stderr.write(_CLEAR)
        sys.stderr.flush()
