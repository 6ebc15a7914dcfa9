"""Landlock (Linux 5.13 and later): this process may then write in one folder alone, and start no program.

It holds native code too, which an audit hook does not see. Source: `include/uapi/linux/landlock.h` and the kernel's
`Documentation/userspace-api/landlock.rst`; the system calls have these numbers on every architecture.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import Any

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION = 1  # flag of _CREATE: only tell the version
_PATH_BENEATH = 1  # kind of rule
_NO_NEW_PRIVILEGES = 38  # of prctl
_WRITE_FILE, _REMOVE_FILE, _MAKE_FILE, _TRUNCATE = 1 << 1, 1 << 5, 1 << 8, 1 << 14
_READ = 1 << 2 | 1 << 3  # of files, of folders
# Bits that each version knows: files (execute to symbolic link), renaming across folders, truncating, devices.
_FILES = {1: 1 << 13, 2: 1 << 14, 3: 1 << 15, 5: 1 << 16}
_TCP = 0b11  # bind, connect
_SCOPES = 0b11  # abstract sockets, signals
_WITH_TCP, _WITH_SCOPES = 4, 6


def landlock_version() -> int:
    """The version that the kernel offers; 0 where it has none."""
    if sys.platform != "linux":
        return 0
    version: int = _library().syscall(_CREATE, None, 0, _VERSION)
    return max(0, version)


def confine_writing(folder: Path) -> bool:
    """Let this process, and what it starts, write, make and remove files in one folder only, and run no program.

    Reading stays as it is. From version 4 on there is no TCP either, from 6 on no signal to others.

    Returns:
        Whether it holds; False where the kernel has no Landlock.

    Raises:
        OSError: The kernel has it, and refuses.
    """
    version = landlock_version()
    if not version:
        return False
    handled = max(bits for since, bits in _FILES.items() if since <= version) - 1 & ~_READ
    fields = [handled, *([_TCP] if version >= _WITH_TCP else []), *([_SCOPES] if version >= _WITH_SCOPES else [])]
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    library = _library()
    rules = _checked(library.syscall(_CREATE, attributes, len(attributes), 0))
    place = os.open(folder, getattr(os, "O_PATH", 0) | os.O_CLOEXEC)
    try:
        allowed = (_WRITE_FILE | _REMOVE_FILE | _MAKE_FILE | _TRUNCATE) & handled
        _checked(library.syscall(_ADD, rules, _PATH_BENEATH, struct.pack("=Qi", allowed, place), 0))
        _checked(library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
        _checked(library.syscall(_RESTRICT, rules, 0))
    finally:
        os.close(place)
        os.close(rules)
    return True


def _library() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    import ctypes

    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
