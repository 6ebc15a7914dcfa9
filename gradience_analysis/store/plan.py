"""Which files an ingest has to read, and which names the store gives them."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gradience_analysis.errors import InputError
from gradience_analysis.sources.opening import STDIN
from gradience_analysis.store.contents import Source, unclear
from gradience_analysis.store.place import bucket_of
from gradience_analysis.store.reading import Wanted
from gradience_analysis.telemetry.files import find_files, name_parts
from gradience_analysis.telemetry.paths import SUFFIXES, survey


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        read: Files to read, or to hold against the content that the store knows.
        unchanged: Files of the same size and time of change.
        gone: Sources whose file is no longer there.
        errors: What could not be found.
    """

    read: list[Wanted] = field(default_factory=list[Wanted])
    unchanged: list[str] = field(default_factory=list[str])
    gone: list[str] = field(default_factory=list[str])
    errors: list[InputError] = field(default_factory=list[InputError])


def files_given(paths: Sequence[str | Path], root: Path) -> tuple[list[str], list[InputError]]:
    """The files that paths stand for, each with the other segments of its run, under the names that a store gives them.

    Args:
        paths: Files, folders and globs.
        root: The store; what lies in it is left out.
    """
    files, errors = survey(paths)
    names: dict[str, None] = {}
    inside = os.path.realpath(root) + os.sep
    for file in files:
        name = _name(file)
        if str(file) == STDIN:
            errors.append(
                InputError(STDIN, "is no file that could be read again.", "Write it to a file and give that.")
            )
        elif not _is_text(name):
            errors.append(InputError(ascii(str(file)), "has a name that is not UTF-8.", "Rename it."))
        elif not name.startswith(inside):
            names[name] = None
    return sorted([*names, *_segments_beside(names)]), errors


def _name(file: Path) -> str:
    """Absolute, links resolved; but the file's own name stays, because segment and rank stand in it."""
    return os.path.join(os.path.realpath(file.parent), file.name)  # noqa: PTH118


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _segments_beside(names: Collection[str]) -> set[str]:
    """Segments of the same runs in the same folders that were not named: a run is stored whole."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_folder[os.path.dirname(name)].append(os.path.basename(name))  # noqa: PTH119, PTH120
    found: set[str] = set()
    for folder, given in by_folder.items():
        stems: dict[str, list[str]] = defaultdict(list)
        for entry in sorted(os.listdir(folder)):  # noqa: PTH208
            if entry.endswith(SUFFIXES):
                stems[name_parts(Path(entry))[0]].append(entry)
        for one in given:
            if set(stems[name_parts(Path(one))[0]]) - set(given):
                found.update(_same_run(Path(folder, one)))
    return found - set(names)


def _same_run(path: Path) -> list[str]:
    try:
        return [_name(file.path) for file in find_files(path)]
    except InputError:
        # It is said when the file itself is read.
        return []


def plan(names: Iterable[str], known: Mapping[str, Source], buckets: int, *, rebuild: bool = False) -> Plan:
    """Hold files against what the store knows of them.

    Args:
        names: Files that were given.
        known: The store's sources, by path. One without identity is read in any case.
        buckets: How many buckets the store has.
        rebuild: Read every file, those of the store too.
    """
    made = Plan()
    wanted = set(names) | {path for path, source in known.items() if rebuild or source.sha256 is None}
    for path in sorted(wanted | known.keys()):
        source = known.get(path)
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError as error:
            # A disk that does not answer is no file that is gone.
            if source is not None and isinstance(error, FileNotFoundError | NotADirectoryError):
                made.gone.append(path)
            else:
                made.errors.append(InputError(path, f"cannot be read: {error.strerror or error}."))
            continue
        if path not in wanted:
            continue
        same = source is not None and (source.size, source.mtime_ns) == (status.st_size, status.st_mtime_ns)
        if same and not rebuild:
            made.unchanged.append(path)
        elif not stat.S_ISREG(status.st_mode):
            made.errors.append(InputError(path, "is no regular file.", "Write the telemetry to a file and give that."))
        else:
            same_size = source is not None and source.size == status.st_size and not rebuild
            made.read.append(Wanted(path, status.st_size, source.sha256 if source and same_size else None))
    if made.read:
        _add_unclear(made, known, buckets)
    return made


def _add_unclear(made: Plan, known: Mapping[str, Source], buckets: int) -> None:
    """Read also what the store alone cannot tell apart (see `unclear`), as far as it is there."""
    in_bucket: dict[int, list[Source]] = defaultdict(list)
    for source in known.values():
        for run_id in source.run_ids:
            in_bucket[bucket_of(run_id, buckets)].append(source)
    listed = {wanted.path for wanted in made.read}
    doubtful = {path for sources in in_bucket.values() for path in unclear(sources)}
    for path in sorted(doubtful - listed - set(made.gone)):
        made.read.append(Wanted(path, known[path].size or 0, None))
        if path in made.unchanged:
            made.unchanged.remove(path)
