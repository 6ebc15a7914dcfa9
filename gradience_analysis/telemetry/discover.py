"""Which runs a path stands for: a file is one run, and a folder is every run in it, or below it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gradience_analysis.errors import InputError, NoTelemetryError
from gradience_analysis.sources.opening import is_folder
from gradience_analysis.telemetry.files import TelemetryFile, find_files, peek
from gradience_analysis.telemetry.foreign import foreign_format
from gradience_analysis.telemetry.paths import survey


class Found(NamedTuple):
    """A run that can be loaded.

    Attributes:
        path: What to load it from: the path as it was given, or a file in it or below it.
        run_id: Which run of that path; None for the only or the newest one.
    """

    path: str
    run_id: str | None


def discover(path: str | Path) -> list[Found]:
    """The runs of a path, in the order of their files.

    A file is one run, the newest when several were written to it. A folder with telemetry in it is each run there;
    without, each run in the folders below it.

    Raises:
        InputError: The path cannot be read.
        NoTelemetryError: There is no run in it or below it.
    """
    folder = Path(path)
    if not is_folder(folder):
        return [Found(str(path), None)]
    try:
        return _runs(str(path), find_files(folder))
    except NoTelemetryError as error:
        return _below(folder, error)


def _runs(path: str, files: Iterable[TelemetryFile]) -> list[Found]:
    """One entry a run; the folder itself stands for an only one, and the first file of each for several."""
    first: dict[str | None, TelemetryFile] = {}
    for file in files:
        first.setdefault(file.run_id, file)
    if len(first) == 1:
        return [Found(path, None)]
    return [Found(str(file.path), run_id) for run_id, file in first.items()]


def _below(folder: Path, nothing: NoTelemetryError) -> list[Found]:
    files, errors = survey([folder])
    by_folder: dict[Path, list[TelemetryFile]] = {}
    for file in files:
        found = _telemetry(file)
        if found is not None:
            by_folder.setdefault(file.parent, []).append(found)
    if by_folder:
        return [run for parent, several in by_folder.items() for run in _runs(str(parent), several)]
    raise next((error for error in errors if error.path != str(folder)), nothing)


def _telemetry(path: Path) -> TelemetryFile | None:
    """What the head of a file says; None for a file that holds no telemetry and is no log of another tool."""
    try:
        file = peek(path)
        return file if file.run_id is not None or foreign_format(path) is not None else None
    except InputError:
        return None  # below a folder lies much that is no telemetry; who names such a file is told
