"""Paths as users give them (files, folders, globs, `-` for stdin) to the files they stand for."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gradience_analysis.errors import InputError
from gradience_analysis.sources.opening import STDIN

SUFFIXES = (".jsonl", ".jsonl.gz")
_MAGIC = re.compile(r"[*?\[]")


class Expansion(NamedTuple):
    """What paths stand for.

    Attributes:
        files: The files, each once, in the order of the paths and sorted within one; `Path("-")` is stdin.
        errors: One for each path, or folder below one, that gave nothing or cannot be listed.
    """

    files: list[Path]
    errors: list[InputError]


class _Folder(NamedTuple):
    """A folder as it was reached, where it really is, and what is in it."""

    shown: Path
    real: str
    entries: list[os.DirEntry[str]]


def expand(paths: Sequence[str | Path], *, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """The files that paths stand for, each once.

    A file stands for itself, whatever its name. A folder stands for every file below it whose name ends in one
    of `suffixes`, sorted; symbolic links are followed, each folder once, so that loops end. A path that does not
    exist and holds `*`, `?` or `[` is a glob: `**` is any number of folders, a name that starts with a dot is
    matched by a pattern that does, and a folder it matches stands for the files below it. `-` is stdin, given as
    `Path("-")`; a file of that name is `./-`.

    Args:
        paths: Files, folders, globs, `-`.
        suffixes: Endings of the files to take from folders.

    Raises:
        InputError: A path does not exist, cannot be listed, or matches nothing. The first of several.
    """
    files, errors = survey(paths, suffixes=suffixes)
    if errors:
        raise errors[0]
    return files


def survey(paths: Sequence[str | Path], *, suffixes: tuple[str, ...] = SUFFIXES) -> Expansion:
    """The same as `expand`, with the errors beside the files that the other paths gave."""
    files: dict[str, Path] = {}
    errors: list[InputError] = []
    for given in paths:
        faults: list[InputError] = []
        found: list[Path] = []
        try:
            found = _expand_one(given, suffixes, faults)
        except InputError as error:
            faults.append(error)
        errors.extend({fault.path: fault for fault in faults}.values())
        for file in found:
            files.setdefault(STDIN if str(file) == STDIN else os.path.realpath(file), file)
    return Expansion(list(files.values()), errors)


def _expand_one(given: str | Path, suffixes: tuple[str, ...], faults: list[InputError]) -> list[Path]:
    if str(given) == STDIN:
        return [Path(STDIN)]
    if not str(given):
        # What an unset shell variable gives; as a Path it would be the current folder.
        raise InputError("''", "is an empty path.", "Give a file, a folder or a glob.")
    name = os.path.expanduser(given)  # noqa: PTH111 (Path.expanduser raises for a user that does not exist)
    path = Path(name)
    try:
        is_folder = path.is_dir()
        exists = is_folder or os.path.lexists(path)
    except (OSError, ValueError) as error:
        raise _unreadable(str(given), error) from error
    if exists and not is_folder:
        return [_not_stdin(path)]
    if exists:
        found = _below(path, suffixes, faults)
        if not found and not faults:
            raise InputError(str(given), f"holds no {_words(suffixes)} file.", "Give the run.jsonl of a run.")
        return found
    if not _MAGIC.search(name):
        raise InputError(str(given), "does not exist. Check the path.")
    found = _glob(path, suffixes, faults)
    if not found and not faults:
        raise InputError(str(given), "matches no file.", "Check the pattern; `**` stands for any number of folders.")
    return found


def _not_stdin(path: Path) -> Path:
    return path.absolute() if str(path) == STDIN else path


def _words(suffixes: tuple[str, ...]) -> str:
    return " or ".join(suffixes)


def _unreadable(name: str, error: OSError | ValueError) -> InputError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InputError(name, f"cannot be read: {reason}.", "Check the path and its permissions.")


def _below(top: Path, suffixes: tuple[str, ...], faults: list[InputError]) -> list[Path]:
    """Files below a folder by suffix, sorted, each real file once and by its own name rather than by a link's."""
    found: dict[str, Path] = {}
    links: list[Path] = []
    for folder in _folders_below(top, faults, hidden=True):
        for entry in folder.entries:
            if not entry.name.endswith(suffixes) or _is_folder(entry):
                continue
            if entry.is_symlink():
                links.append(folder.shown / entry.name)
            else:
                found.setdefault(os.path.join(folder.real, entry.name), folder.shown / entry.name)  # noqa: PTH118
    for link in sorted(links):
        found.setdefault(os.path.realpath(link), link)
    return sorted(found.values())


def _folders_below(top: Path, faults: list[InputError], *, hidden: bool) -> Iterator[_Folder]:
    """A folder and those below it, each real one once; linked ones after all that are reached without a link."""
    pending = [(top, os.path.realpath(top))]
    linked: list[tuple[Path, str]] = []
    seen: set[str] = set()
    while pending or linked:
        shown, real = pending.pop() if pending else linked.pop(0)
        if real in seen:
            continue
        seen.add(real)
        entries = _entries(shown, faults)
        yield _Folder(shown, real, entries)
        for entry in entries:
            if not _is_folder(entry) or (entry.name.startswith(".") and not hidden):
                continue
            below = shown / entry.name
            if entry.is_symlink():
                linked.append((below, os.path.realpath(below)))
            else:
                pending.append((below, os.path.join(real, entry.name)))  # noqa: PTH118


def _entries(folder: Path, faults: list[InputError]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        reason = error.strerror or str(error)
        faults.append(InputError(str(folder), f"cannot be listed: {reason}.", "Check its permissions."))
        return []


def _is_folder(entry: os.DirEntry[str] | Path) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads round in a circle, or to where we may not look: not a folder, and an error when read.
        return False


def _glob(pattern: Path, suffixes: tuple[str, ...], faults: list[InputError]) -> list[Path]:
    """Files that a pattern matches; the library's own `**` does not end within reason where links form loops."""
    place = Path(pattern.anchor)
    parts = list(pattern.parts[1:] if pattern.anchor else pattern.parts)
    while parts and not _MAGIC.search(parts[0]):
        place /= parts.pop(0)
    # A folder stands for all below it, so that what `**` adds at the end is there already.
    while parts and parts[-1] == "**":
        parts.pop()
    places = [place]
    for part, before in zip(parts, ["", *parts], strict=False):
        if part == "**" == before:
            continue
        places = [found for place in places for found in _step(place, part, faults)]
    found: dict[str, Path] = {}
    for place in dict.fromkeys(places):
        for file in _below(place, suffixes, faults) if _is_folder(place) else [_not_stdin(place)]:
            found.setdefault(os.path.realpath(file), file)
    return sorted(found.values())


def _step(place: Path, part: str, faults: list[InputError]) -> list[Path]:
    """What one part of a pattern makes of one place."""
    if not _is_folder(place):
        return []
    if part == "**":
        return [folder.shown for folder in _folders_below(place, faults, hidden=False)]
    if not _MAGIC.search(part):
        return [place / part] if os.path.lexists(place / part) else []
    matches = re.compile(fnmatch.translate(part)).match
    names = [entry.name for entry in _entries(place, faults)]
    return [place / name for name in names if matches(name) and (part[0] == "." or name[0] != ".")]
