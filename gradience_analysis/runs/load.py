"""Paths to `Runs`: files, folders, globs and stores, each file read once, in several processes when that pays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gradience_analysis.errors import GradienceError, InputError, NoTelemetryError
from gradience_analysis.runs.collection import Runs
from gradience_analysis.runs.holdings import Holding, InMemory, Joined, Stored
from gradience_analysis.runs.progress import Bar, ProgressOption
from gradience_analysis.runs.reading import Source, read_sources
from gradience_analysis.sources.opening import STDIN
from gradience_analysis.store import is_store, open_store
from gradience_analysis.telemetry.paths import survey

# What telemetry shrinks to, about: the work is in the decompressed bytes.
_GZIP_RATIO: Final = 10


def load_runs(
    paths: str | Path | Sequence[str | Path], *, workers: int | None = None, progress: ProgressOption = None
) -> Runs:
    """Read many runs.

    Args:
        paths: A file (telemetry/v1, a log of another tool, gzip or not), a folder (every .jsonl and .jsonl.gz below), a
            glob (`**` is any number of folders), a store that `gradience ingest` made, or a sequence of these.
        workers: Processes to read with. None chooses: this process alone below 40 MiB of input, beyond that one process
            for each 20 MiB, and at most one a processor; starting one costs about as much as reading that many bytes.
        progress: None shows a bar on stderr when that is a terminal and reading takes longer than two seconds; False
            never does; a function is called with how many batches of files are done and how many there are.

    Returns:
        The runs. What could not be read does not stop the rest: it is in `failures`.

    Raises:
        InputError: Nothing could be read.
        GradienceError: There is no path, or `workers` is less than 1.
    """
    given: list[str | Path] = [paths] if isinstance(paths, str | Path) else list(paths)
    if not given:
        raise GradienceError("There is no path to read runs from.", "Give a file, a folder, a glob or a store.")
    stores = [path for path in given if is_store(path)]
    others = [path for path in given if path not in stores]
    holdings: list[Holding] = [Stored(open_store(path)) for path in stores]
    failures: list[InputError] = []
    if others:
        sources, failures = _sources(others)
        tables, errors = read_sources(sources, workers, Bar("reading runs", progress))
        failures += errors
        if tables.parts.num_rows:
            holdings.append(InMemory(tables, workers=workers, progress=progress))
    if not holdings:
        raise _nothing(failures)
    return Runs(holdings[0] if len(holdings) == 1 else Joined(holdings), failures)


def _sources(paths: Sequence[str | Path]) -> tuple[list[Source], list[InputError]]:
    found = survey([path for path in paths if str(path) != STDIN])
    failures = list(found.errors)
    if any(str(path) == STDIN for path in paths):
        failures.append(InputError("<stdin>", "cannot be read as runs.", "Write it to a file and give that."))
    named = {str(Path(path).expanduser()) for path in paths}
    sources = [Source(str(path), _size(path), str(path) not in named) for path in found.files]
    return sources, failures


def _size(path: Path) -> int:
    try:
        return path.stat().st_size * (_GZIP_RATIO if path.suffix == ".gz" else 1)
    except OSError:
        # Reading it says what is wrong.
        return 0


def _nothing(failures: Sequence[InputError]) -> InputError:
    first = failures[0]
    if len(failures) == 1:
        return first
    kind = NoTelemetryError if all(isinstance(error, NoTelemetryError) for error in failures) else InputError
    message = first.message.removeprefix(f"{first.path}: ")
    return kind(first.path, f"{message} None of {len(failures):,} paths could be read as a run.", first.remedy)
