"""Which files belong to one run: names of segments, and what the head of a file says about it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from gradience_analysis.errors import InputError, NoTelemetryError
from gradience_analysis.model import plural
from gradience_analysis.sources.decode import decode_strict
from gradience_analysis.sources.lines import BOM, MAX_LINE_BYTES
from gradience_analysis.sources.opening import is_folder, open_regular
from gradience_analysis.telemetry.foreign import foreign_format
from gradience_analysis.telemetry.paths import SUFFIXES
from gradience_schema import SCHEMA_ID

_NAME = re.compile(r"^(?P<stem>.+?)(?:\.rank(?P<rank>\d{1,9}))?(?:\.(?P<index>\d{1,9}))?\.jsonl(?:\.gz)?$")
FOREIGN_NAMES = (*SUFFIXES, "trainer_state.json", "metrics.csv")
_HEAD_LINES = 20
_FORMAT = SCHEMA_ID.rpartition("/")[0]
OTHER_VERSION = "Update gradience, or convert the file to telemetry/v1."
"""What to do about a file of another version of the format."""


@dataclass(frozen=True, slots=True)
class TelemetryFile:
    """One file of a run.

    Attributes:
        path: Where it is.
        stem: Name common to all segments of a run, such as `run`.
        rank: Rank in its name, 0 without one.
        index: Segment number in its name, 0 without one.
        run_id: Run of its first readable record; None when none was found near its start. A log of another tool is
            a run by itself, named like the file.
        ts: Time of that record, or of the last change of a log of another tool; 0 without one.
    """

    path: Path
    stem: str
    rank: int
    index: int
    run_id: str | None
    ts: float


def find_files(path: Path) -> list[TelemetryFile]:
    """The telemetry files that a path stands for: itself with its sibling segments, or those in a directory.

    Raises:
        InputError: The path cannot be read.
        NoTelemetryError: The directory holds no telemetry.
    """
    if is_folder(path):
        return _in_directory(path)
    given = peek(path)
    if given.run_id is None:
        return [given]
    siblings = map(peek, _segments_beside(path))
    return [given, *(other for other in siblings if other.run_id == given.run_id)]


def _segments_beside(path: Path) -> list[Path]:
    """Files in the same folder that are named as segments of the same run; cheap also among thousands of others."""
    stem = name_parts(path)[0]
    try:
        names = [name for name in os.listdir(path.parent) if name.startswith(stem) and name.endswith(SUFFIXES)]  # noqa: PTH208
    except OSError as error:
        raise InputError(str(path.parent), f"cannot be listed: {error.strerror}.") from error
    others = (path.parent / name for name in sorted(names) if name != path.name)
    return [other for other in others if name_parts(other)[0] == stem and other.is_file()]


def _in_directory(path: Path) -> list[TelemetryFile]:
    candidates = _listing(path)
    files = [file for file in map(peek, candidates) if file.run_id is not None]
    if files:
        return files
    foreign = [_foreign(candidate) for candidate in _listing(path, FOREIGN_NAMES) if foreign_format(candidate)]
    if foreign:
        return foreign
    version = next(filter(None, map(_other_version, candidates)), None)
    if version is not None:
        what = f"holds telemetry of the version {version!r}, which this release does not read (it reads v1)."
        raise NoTelemetryError(str(path), what, OTHER_VERSION)
    below = sorted(str(item.relative_to(path)) for item in path.glob("*/run.jsonl"))
    found = plural(len(candidates), ".jsonl file")
    what = f"holds {found}, none with a telemetry/v1 record" if candidates else "holds no .jsonl file"
    remedy = f"Give one of those below it: {', '.join(below[:5])}." if below else "Give the run.jsonl of a run."
    raise NoTelemetryError(str(path), f"{what}.", remedy)


def _listing(folder: Path, names: tuple[str, ...] = SUFFIXES) -> list[Path]:
    try:
        return sorted(item for item in folder.iterdir() if item.name.endswith(names) and item.is_file())
    except OSError as error:
        raise InputError(str(folder), f"cannot be listed: {error.strerror}.") from error


def _foreign(path: Path) -> TelemetryFile:
    return TelemetryFile(path, path.name, 0, 0, path.name, path.stat().st_mtime)


def name_parts(path: Path) -> tuple[str, int, int]:
    """Stem, rank and segment number in a file's name; rank and number are 0 without one."""
    match = _NAME.match(path.name)
    if match is None:
        return path.name, 0, 0
    return match["stem"], int(match["rank"] or 0), int(match["index"] or 0)


def _other_version(path: Path) -> str | None:
    """The schema of the first record, when it is this format in another version."""
    with open_regular(path) as file:
        record = _loads(file.readline(MAX_LINE_BYTES + 1).removeprefix(BOM))
    schema = None if record is None else record.get("schema")
    return schema[:80] if isinstance(schema, str) and schema.startswith(_FORMAT) else None


def peek(path: Path) -> TelemetryFile:
    """What the first records of a file say; a few lines only, so that a directory of many runs stays cheap."""
    run_id, ts = None, 0.0
    with open_regular(path) as file:
        for _ in range(_HEAD_LINES):
            record = _loads(file.readline(MAX_LINE_BYTES + 1).removeprefix(BOM))
            if isinstance(record, dict) and record.get("schema") == SCHEMA_ID:
                found = record.get("run_id")
                stamp = record.get("ts")
                if isinstance(found, str) and isinstance(stamp, int | float):
                    run_id, ts = found, float(stamp)
                    break
    return TelemetryFile(path, *name_parts(path), run_id, ts)


def _loads(data: bytes) -> dict[str, object] | None:
    value = decode_strict(data)
    return cast("dict[str, object]", value) if isinstance(value, dict) else None
