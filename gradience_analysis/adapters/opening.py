"""Opening files that came from elsewhere: regular ones only, and never more of them than was asked for."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO

from gradience_analysis.errors import InputError

_PIECE = 1 << 20
_REMEDY = "Give a folder with regular files, as save_pretrained writes it."


def open_plain(path: Path) -> IO[bytes]:
    """Open a regular file as its bytes are; a link to one is followed, as model caches are made of links.

    Raises:
        InputError: The path is missing, not readable, or names a directory, FIFO, socket or device: those are
            never waited for.
    """
    try:
        # Without O_NONBLOCK, opening a FIFO that nobody writes to would never return.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise InputError(str(path), "does not exist.", "Check the path.") from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(str(path), "is not a regular file.", _REMEDY)
    return os.fdopen(descriptor, "rb")


def read_bounded(path: Path, limit: int) -> bytes:
    """All bytes of a regular file that is not larger than `limit`.

    Raises:
        InputError: It cannot be opened or read, or is larger.
    """
    with open_plain(path) as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise unreadable(path, error) from error
    if len(data) > limit:
        raise InputError(str(path), f"is larger than {limit:,} bytes.", "A file of this name is small; look into it.")
    return data


def sha256_of(path: Path) -> str:
    """SHA-256 of a regular file, in lower-case hex.

    Raises:
        InputError: It cannot be opened or read.
    """
    # Not at the top: checking a configuration reads files and hashes none.
    import hashlib

    digest = hashlib.sha256()
    with open_plain(path) as file:
        try:
            while piece := file.read(_PIECE):
                digest.update(piece)
        except OSError as error:
            raise unreadable(path, error) from error
    return digest.hexdigest()


def unreadable(path: Path, error: OSError | ValueError) -> InputError:
    """The error for a path that the system refuses."""
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return InputError(str(path), f"cannot be read: {reason}.")
