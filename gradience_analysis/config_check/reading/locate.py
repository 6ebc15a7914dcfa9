"""The file of settings in a folder: its exact name at the root, else the only match below, else nothing is guessed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gradience_analysis.config_check.reading.document import refuse_pickle
from gradience_analysis.errors import InputError

ADAPTER_NAMES = ("adapter_config.json",)
TRAINING_NAMES = ("training_args.json", "training_arguments.json")
_TRAINING_PICKLE = "training_args.bin"
_MAX_ENTRIES = 20_000
_SHOWN = 10


def find_adapter_config(folder: Path) -> Path:
    """The adapter_config.json of a folder.

    Raises:
        InputError: The folder cannot be read, or it holds none, or several below its root.
    """
    return _find(folder, ADAPTER_NAMES, "--peft")


def find_training_args(folder: Path) -> Path:
    """The training_args.json of a folder.

    Raises:
        InputError: The folder cannot be read, or it holds none, or several, or only the pickle training_args.bin.
    """
    return _find(folder, TRAINING_NAMES, "--training", pickle=_TRAINING_PICKLE)


def _find(folder: Path, names: tuple[str, ...], flag: str, pickle: str = "") -> Path:
    name = str(folder)
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises on a name that is too long
        what = "is a file." if os.path.exists(folder) else "does not exist."  # noqa: PTH110 - as above
        raise InputError(name, what, f"A file goes to {flag}." if what == "is a file." else "Check the path.")
    found = [folder / one for one in names if (folder / one).is_file()]
    pickled: list[Path] = []
    if not found:
        for path in _below(folder, flag):
            if path.name in names:
                found.append(path)
            elif path.name == pickle:
                pickled.append(path)
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(str(path) for path in sorted(found)[:_SHOWN])
        more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
        raise InputError(name, f"holds several: {listed}{more}.", f"Give the one that is meant by {flag}.")
    if pickled:
        refuse_pickle(min(pickled))
    raise InputError(name, f"holds no {names[0]}, at its root or below.", f"Give the file by {flag}.")


def _below(folder: Path, flag: str) -> Iterator[Path]:
    """Regular files below a folder; links to folders are not followed."""
    seen = 0

    def refuse(error: OSError) -> None:
        raise InputError(str(error.filename), f"cannot be read: {error.strerror}.") from error

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        seen += len(folders) + len(files)
        if seen > _MAX_ENTRIES:
            raise InputError(str(folder), f"has more than {_MAX_ENTRIES:,} entries.", f"Give the file by {flag}.")
        for one in sorted(files):
            path = Path(root, one)
            if path.is_file():
                yield path
