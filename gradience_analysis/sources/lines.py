"""One pass over the bytes of a file, split on newlines only, in bounded memory: line by line, or in blocks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from gradience_analysis.errors import InputError
from gradience_analysis.sources.opening import refuse_container, shown_name

MAX_LINE_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"
# Below the line cap, so that only the last line of a block can be longer than the cap.
_BLOCK_BYTES = 1 << 19
_SKIP_BYTES = 1 << 16


class Line(NamedTuple):
    """One line of a file, without its newline.

    Attributes:
        number: 1-based.
        offset: 0-based byte offset of its first byte.
        data: Its bytes; of an over-long line only the first ones.
        ended: It was closed by a newline; only the last line of a file can lack it.
        size: Bytes in the file, newline not counted.
    """

    number: int
    offset: int
    data: bytes
    ended: bool
    size: int


class Block(NamedTuple):
    """Lines that follow each other.

    Attributes:
        number: Number of the first one, 1-based.
        offset: 0-based byte offset of its first byte.
        data: The lines with their newlines, none longer than the cap; may be empty.
        texts: The same lines one by one, without their newlines.
        last: The line after them when it is over-long or not closed by a newline, else None.
    """

    number: int
    offset: int
    data: bytes
    texts: list[bytes]
    last: Line | None


def iter_lines(file: IO[bytes], path: Path, *, number: int = 0, offset: int = 0) -> Iterator[Line]:
    """Lines of an open file in order; memory stays within one line cap.

    Args:
        file: The file, at the start of a line.
        path: Its path.
        number: Lines before this place.
        offset: Bytes before this place.

    Raises:
        InputError: The first bytes show a compressed file or another encoding than UTF-8, or the disk refuses.
    """
    while data := _read(file.readline, MAX_LINE_BYTES + 1, path, offset):
        if not offset:
            refuse_container(data, path)
        number += 1
        line = _line(file, number, offset, data)
        yield line
        offset += line.size + line.ended


def iter_blocks(file: IO[bytes], path: Path) -> Iterator[Block]:
    """The same lines, about half a megabyte at a time.

    Raises:
        InputError: As `iter_lines`.
    """
    offset = 0
    number = 1
    while data := _read(file.read, _BLOCK_BYTES, path, offset):
        if not offset:
            refuse_container(data, path)
        if not data.endswith(b"\n"):
            data += _read(file.readline, MAX_LINE_BYTES + 1, path, offset)
        cut = data.rfind(b"\n", 0, -1) + 1
        tail = b""
        if not data.endswith(b"\n") or len(data) - cut > MAX_LINE_BYTES + 1:
            data, tail = data[:cut], data[cut:]
        texts = data.split(b"\n")
        texts.pop()
        last = _line(file, number + len(texts), offset + cut, tail) if tail else None
        yield Block(number, offset, data, texts, last)
        number += len(texts) + (last is not None)
        offset += len(data) + (0 if last is None else last.size + last.ended)


def _read(read: Callable[[int], bytes], size: int, path: Path, offset: int) -> bytes:
    try:
        return read(size)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(shown_name(path), f"cannot be read beyond byte {offset:,}: {reason}.") from error


def _line(file: IO[bytes], number: int, offset: int, data: bytes) -> Line:
    """The line that starts with `data`; what is beyond the cap is passed over in the file."""
    ended = data.endswith(b"\n")
    size = len(data) - ended
    if not ended and len(data) > MAX_LINE_BYTES:
        rest, ended = _skip_to_newline(file)
        size += rest
    return Line(number, offset, data[:-1] if data.endswith(b"\n") else data, ended, size)


def _skip_to_newline(file: IO[bytes]) -> tuple[int, bool]:
    """Read on to the next newline: bytes passed over (without it) and whether there was one."""
    passed = 0
    while piece := file.readline(_SKIP_BYTES):
        if piece.endswith(b"\n"):
            return passed + len(piece) - 1, True
        passed += len(piece)
    return passed, False
