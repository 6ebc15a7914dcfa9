"""What a given path is, and whether a name is plain and stays where it belongs."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from gradience_analysis.config_check.machine.facts import NameFacts, PathFacts

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_KINDS = (
    (stat.S_ISLNK, "symlink"),
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "directory"),
    (stat.S_ISFIFO, "FIFO"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "character device"),
    (stat.S_ISBLK, "block device"),
)


def path_facts(label: str, path: Path, wanted: str = "file") -> PathFacts:
    """What stands at a path, links not followed; `wanted` is `file` or `directory`."""
    try:
        mode = path.lstat().st_mode
    except (OSError, ValueError):  # ValueError: a NUL byte in the path
        return PathFacts(label, str(path), "missing", wanted)
    kind = next((word for test, word in _KINDS if test(mode)), "special file")
    return PathFacts(label, str(path), kind, wanted)


def is_safe_name(name: str) -> bool:
    """Whether a name is plain: a letter or digit, then up to 99 letters, digits, dots, underscores and hyphens."""
    return SAFE_NAME.fullmatch(name) is not None


def name_fault(name: str, root: Path | None = None) -> str:
    """Why a name is not safe to keep something under; empty when it is.

    Args:
        name: The name, or a relative path of plain names below `root`.
        root: The folder it must stay in; None checks the name alone.
    """
    parts = name.split("/") if root is not None else [name]
    for part in parts:
        if part in {".", ".."} or (part == "" and len(parts) > 1):
            return "it leaves its folder, or is no plain path"
        if not is_safe_name(part):
            return "it is no plain name (a letter or digit, then at most 99 of letters, digits, dots, _ and -)"
    return "" if root is None else _link_fault(root, parts)


def _link_fault(root: Path, parts: list[str]) -> str:
    """A link on the way below the root may lead out of it, today or tomorrow."""
    at = root
    for part in parts:
        at = at / part
        if at.is_symlink():
            return f"{part} is a symlink"
    return "" if confined(at, root) else "it leaves its folder"


def confined(path: Path, root: Path) -> bool:
    """Whether a path, with every link on its way followed, is `root` or stays below it; neither needs to exist."""
    home, there = os.path.realpath(root), os.path.realpath(path)
    return there == home or there.startswith(home.rstrip(os.sep) + os.sep)


def name_facts(label: str, name: str, root: Path | None = None) -> NameFacts:
    """A name with what is wrong with it."""
    return NameFacts(label, name, "" if root is None else str(root), name_fault(name, root))
