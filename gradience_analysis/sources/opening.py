"""Opens what a path names for reading bytes: regular files and gzip; refuses what may never end."""

from __future__ import annotations

import io
import os
import re
import stat
import sys
import zlib
from pathlib import Path
from typing import IO, Any, cast

from gradience_analysis.errors import InputError

STDIN = "-"
STDIN_NAME = "<stdin>"
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 31
_PIECE = 1 << 16

_CONTAINERS = (
    (b"\x28\xb5\x2f\xfd", "is zstd-compressed.", "Decompress it first: zstd -d FILE."),
    (b"\xff\xfe\x00\x00", "is encoded as UTF-32.", "Convert it first: iconv -f UTF-32 -t UTF-8 FILE."),
    (b"\xff\xfe", "is encoded as UTF-16.", "Convert it first: iconv -f UTF-16 -t UTF-8 FILE."),
    (b"\xfe\xff", "is encoded as UTF-16.", "Convert it first: iconv -f UTF-16 -t UTF-8 FILE."),
    (b"PAR1", "is a Parquet file.", "Give the JSONL it was made from."),
    (b"PK\x03\x04", "is a zip archive.", "Unpack it and give the run.jsonl inside."),
)
# Without a byte order mark it shows by every other byte; one NUL alone is a damaged line, and costs no more than that.
_BARE_UTF16 = (
    (re.compile(rb"\{\x00[^\x00]\x00"), "little endian", "LE"),
    (re.compile(rb"\x00\{\x00[^\x00]"), "big endian", "BE"),
)

_KINDS = (
    (stat.S_ISFIFO, "FIFO"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "character device"),
    (stat.S_ISBLK, "block device"),
)


def shown_name(path: str | Path) -> str:
    """The path as messages name it: `<stdin>` for `-`."""
    return STDIN_NAME if str(path) == STDIN else str(path)


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; False where that cannot be told."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False  # opening it says what is wrong with it


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file, or standard input for `-`; gzip is decompressed on the way.

    Offsets into a compressed file count its decompressed bytes. A gzip stream that ends early or is damaged
    ends there; `read_fault` then says what happened.

    Raises:
        InputError: The path is missing, not readable, or a directory, FIFO, socket or device (reading
            one of those may never end).
    """
    if str(path) == STDIN:
        return _through_gzip(sys.stdin.buffer)
    name = str(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return _through_gzip(io.BufferedReader(_Regular(path)))
    except FileNotFoundError:
        raise InputError(name, "does not exist. Check the path.") from None
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    if stat.S_ISDIR(mode):
        raise InputError(name, "is a directory where a file is needed.", "Give the run.jsonl inside it.")
    kind = next((word for test, word in _KINDS if test(mode)), "special file")
    raise InputError(name, f"is a {kind}, not a regular file.", "Write the telemetry to a file and give that.")


def _unreadable(name: str, error: OSError | ValueError) -> InputError:
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return InputError(name, f"cannot be read: {reason}.")


def read_fault(file: IO[bytes]) -> str | None:
    """What cut short the decompression of a file that `open_regular` opened; None when nothing did."""
    raw = getattr(file, "raw", None)
    return raw.fault if isinstance(raw, _Gunzip) else None


def refuse_container(head: bytes, path: str | Path) -> None:
    """Refuse content that is no UTF-8 text, by its first bytes.

    Raises:
        InputError: It is compressed in another way than gzip, in another encoding, or a known binary format.
    """
    for magic, what, remedy in _CONTAINERS:
        if head.startswith(magic):
            raise InputError(shown_name(path), what, remedy)
    for start, order, name in _BARE_UTF16:
        if start.match(head):
            what = f"is encoded as UTF-16 ({order})."
            raise InputError(shown_name(path), what, f"Convert it first: iconv -f UTF-16{name} -t UTF-8 FILE.")


class _Regular(io.FileIO):
    """A file on a disk that may fail in the middle of it: that is a fault of the input, too."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._path = path

    def readinto(self, buffer: Any) -> int | None:
        """As `io.FileIO`, but with an InputError that names the file."""
        try:
            return super().readinto(buffer)
        except OSError as error:
            raise _unreadable(str(self._path), error) from error


def _through_gzip(file: IO[bytes]) -> IO[bytes]:
    try:
        head = cast("io.BufferedReader", file).peek(2)[:2]
    except InputError:
        file.close()
        raise
    if head != _GZIP_MAGIC:
        return file
    return io.BufferedReader(_Gunzip(file), _PIECE)


class _Gunzip(io.RawIOBase):
    """Decompresses a gzip file of any number of members, a piece at a time.

    Python's own reader raises at a cut-off end and takes what it had buffered with it; the lines before
    the cut are what the user wants to see.

    Attributes:
        fault: What ended the stream too early; None as long as nothing did.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._inflate = zlib.decompressobj(_GZIP_WBITS)
        self._pending = b""
        self._started = False
        self._ended = False
        self.fault: str | None = None

    def readable(self) -> bool:
        """Always true."""
        return True

    def close(self) -> None:
        """Close the compressed file too."""
        if self._file is not sys.stdin.buffer:
            self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with decompressed bytes; 0 at the end."""
        view = memoryview(buffer)
        while not self._ended:
            data = self._next(len(view))
            if data:
                view[: len(data)] = data
                return len(data)
        return 0

    def _next(self, size: int) -> bytes:
        if self._inflate.eof and not self._next_member():
            return b""
        source = self._pending or self._file.read(_PIECE)
        if not source:
            if self._started:
                self.fault = "the gzip stream is cut off"
            self._ended = True
            return b""
        self._started = True
        try:
            data = self._inflate.decompress(source, size)
        except zlib.error as error:
            self.fault = f"the gzip stream is damaged ({str(error).rpartition(': ')[2]})"
            self._ended = True
            return b""
        self._pending = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
        return data

    def _next_member(self) -> bool:
        """Start on a member that follows; zero padding after the last one is allowed."""
        rest = self._pending
        while not rest.strip(b"\x00"):
            rest = self._file.read(_PIECE)
            if not rest:
                self._ended = True
                return False
        self._pending = rest.lstrip(b"\x00")
        self._inflate = zlib.decompressobj(_GZIP_WBITS)
        self._started = False
        return True
