"""One pass over the bytes of a file, split on newlines only, with bounded memory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from gradience_analysis.errors import InputError

MAX_LINE_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"
_SKIP_BYTES = 1 << 16

_CONTAINERS = (
    (b"\x1f\x8b", "is gzip-compressed.", "Decompress it first: gunzip -k FILE."),
    (b"\x28\xb5\x2f\xfd", "is zstd-compressed.", "Decompress it first: zstd -d FILE."),
    (b"\xff\xfe\x00\x00", "is encoded as UTF-32.", "Convert it first: iconv -f UTF-32 -t UTF-8 FILE."),
    (b"\xff\xfe", "is encoded as UTF-16.", "Convert it first: iconv -f UTF-16 -t UTF-8 FILE."),
    (b"\xfe\xff", "is encoded as UTF-16.", "Convert it first: iconv -f UTF-16 -t UTF-8 FILE."),
    (b"{\x00", "is encoded as UTF-16 (little endian).", "Convert it first: iconv -f UTF-16LE -t UTF-8 FILE."),
    (b"\x00{", "is encoded as UTF-16 (big endian).", "Convert it first: iconv -f UTF-16BE -t UTF-8 FILE."),
    (b"PAR1", "is a Parquet file.", "Give the JSONL it was made from."),
    (b"PK\x03\x04", "is a zip archive.", "Unpack it and give the run.jsonl inside."),
)


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


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file for reading bytes.

    Raises:
        InputError: The path is missing, not readable, or a directory, FIFO, socket or device (reading
            one of those may never end).
    """
    name = str(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return path.open("rb")
    except FileNotFoundError:
        raise InputError(name, "does not exist. Check the path.") from None
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise InputError(name, f"cannot be read: {reason}.") from error
    if stat.S_ISDIR(mode):
        raise InputError(name, "is a directory where a file is needed.", "Give the run.jsonl inside it.")
    kind = next((word for test, word in _KINDS if test(mode)), "special file")
    raise InputError(name, f"is a {kind}, not a regular file.", "Write the telemetry to a file and give that.")


_KINDS = (
    (stat.S_ISFIFO, "FIFO"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "character device"),
    (stat.S_ISBLK, "block device"),
)


def iter_lines(file: IO[bytes], path: Path) -> Iterator[Line]:
    """Lines of an open file in order; memory stays within one line cap.

    Raises:
        InputError: The first bytes show a compressed file or another encoding than UTF-8.
    """
    offset = 0
    number = 0
    while data := file.readline(MAX_LINE_BYTES + 1):
        if not offset:
            _refuse_container(data, path)
        number += 1
        ended = data.endswith(b"\n")
        size = len(data) - ended
        if not ended and len(data) > MAX_LINE_BYTES:
            rest, ended = _skip_to_newline(file)
            size += rest
        yield Line(number, offset, data[:-1] if data.endswith(b"\n") else data, ended, size)
        offset += size + ended


def _refuse_container(head: bytes, path: Path) -> None:
    for magic, what, remedy in _CONTAINERS:
        if head.startswith(magic):
            raise InputError(str(path), what, remedy)


def _skip_to_newline(file: IO[bytes]) -> tuple[int, bool]:
    """Read on to the next newline: bytes passed over (without it) and whether there was one."""
    passed = 0
    while piece := file.readline(_SKIP_BYTES):
        if piece.endswith(b"\n"):
            return passed + len(piece) - 1, True
        passed += len(piece)
    return passed, False
