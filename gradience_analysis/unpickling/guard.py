"""Ends a process that does anything beside what it is for, by an audit hook (PEP 578) that knows what may happen.

Whatever the interpreter announces that is not on the short list here is refused, known or not: imports, code that is
compiled or run, files, sockets, processes, ctypes. Reading weights announces nothing at all once everything that it
needs is imported. A hook sees what Python does and no more; what native code does by itself is for the kernel
(`landlock`, `limits`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import PurePath
from typing import Any, NoReturn

_READ_ONLY = getattr(os, "O_ACCMODE", 3)
# Announced when an exception is about to be reported, which ends the process anyway.
_HARMLESS = frozenset({"sys.excepthook", "sys.unraisablehook"})
_MOVES = frozenset({"os.link", "os.rename", "os.remove"})


class _Stage(Enum):
    SOURCE = "the file may be opened"
    OPENED = "the descriptor that was got may be made a file"
    LOAD = "nothing may happen"
    OUTPUT = "files may be written in the one folder"


class Guard:
    """The hook, and the stage that it holds the process to. It cannot be taken off again.

    Args:
        source: The one file that may be opened for reading, once.
        folder: The one folder in which files may be written, once `let_write` was called.
        trip: Called with the event and its first argument; it must end the process.
    """

    def __init__(self, source: str, folder: str, trip: Callable[[str, str], NoReturn]) -> None:
        self._source = source
        self._folder = folder
        self._trip = trip
        self._stage = _Stage.SOURCE

    def install(self) -> None:
        """Hold the process to what it is for, from now on."""
        sys.addaudithook(self._seen)

    def let_write(self) -> None:
        """The file has been read: let files be written in the folder."""
        self._stage = _Stage.OUTPUT

    def _seen(self, event: str, args: tuple[Any, ...]) -> None:
        if event in _HARMLESS:
            return
        if event == "open" and len(args) == 3 and self._may_open(args[0], args[2]):
            return
        if event in _MOVES and self._stage is _Stage.OUTPUT and self._may_move(event, args):
            return
        self._trip(event, _named(args))

    def _may_open(self, path: object, flags: object) -> bool:
        if not isinstance(flags, int):
            return False
        match self._stage:
            case _Stage.SOURCE if _text(path) == self._source:
                self._stage = _Stage.OPENED
                return flags & _READ_ONLY == os.O_RDONLY
            case _Stage.OPENED if isinstance(path, int):
                self._stage = _Stage.LOAD
                return True
            case _Stage.OUTPUT:
                # A number is a file that is open already.
                return isinstance(path, int) or self._inside(path) or _text(path) == self._folder
            case _:
                return False

    def _may_move(self, event: str, args: tuple[Any, ...]) -> bool:
        count = 1 if event == "os.remove" else 2
        return all(self._inside(path) for path in args[:count])

    def _inside(self, path: object) -> bool:
        text = _text(path)
        return bool(text) and os.path.split(text)[0] == self._folder and os.path.split(text)[1] not in {"", ".", ".."}


def _text(path: object) -> str:
    """A path as it was given; empty for what is none."""
    return str(path) if isinstance(path, str | PurePath) else ""


def _named(args: tuple[Any, ...]) -> str:
    """The first argument of an event if it is a text, as it goes into a message."""
    first = args[0] if args else ""
    return first[:200] if isinstance(first, str) else ""
