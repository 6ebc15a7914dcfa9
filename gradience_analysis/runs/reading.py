"""Reads files into tables, in this process or in several, and keeps the fault of each that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from gradience_analysis.errors import InputError, NoTelemetryError
from gradience_analysis.model import Issue
from gradience_analysis.runs.progress import Bar
from gradience_analysis.sources.opening import open_regular
from gradience_analysis.tables.arrow import pa, pc
from gradience_analysis.tables.bundle import Tables
from gradience_analysis.tables.layout import ISSUE_COUNTS, ISSUES, SCHEMAS
from gradience_analysis.tables.read_file import TableBuilder
from gradience_analysis.workers.pool import Pool, batched, workers_for
from gradience_schema import SCHEMA_ID, Severity

_BATCH_BYTES: Final = 8 << 20
_BATCH_FILES: Final = 64
_HEAD_BYTES: Final = 1 << 16
_SAME_COPY: Final = ("run_id", "rank", "first_ts", "last_ts", "first_step", "last_step", "records", "status")


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read.

    Attributes:
        path: Where it is; tables name it so.
        size: Its bytes on disk.
        found: Whether it was found in a folder, rather than named by the user: then a file that shows no sign of
            telemetry in its first 64 KiB is not read to its end.
    """

    path: str
    size: int
    found: bool


class Fault(NamedTuple):
    """An `InputError` on its way between processes; an exception does not come through whole."""

    path: str
    message: str
    remedy: str
    no_telemetry: bool

    @classmethod
    def of(cls, error: InputError) -> Self:
        """The fault that an error tells of."""
        message = error.message.removeprefix(f"{error.path}: ")
        return cls(error.path, message, error.remedy, isinstance(error, NoTelemetryError))

    def error(self) -> InputError:
        """The error again."""
        return (NoTelemetryError if self.no_telemetry else InputError)(self.path, self.message, self.remedy)


def read_sources(sources: Sequence[Source], workers: int | None, progress: Bar) -> tuple[Tables, list[InputError]]:
    """The tables of all files, in the order given, and an error for each that gave none.

    A file that is a copy of an earlier one (the same parts of the same runs, to the last record) is left out, with an
    issue that says so.
    """
    batches = batched(sources, lambda source: source.size, _BATCH_BYTES, _BATCH_FILES)
    tables: list[Tables] = []
    errors: list[InputError] = []
    with Pool(workers_for(len(batches), sum(source.size for source in sources), workers)) as pool:
        for done, (several, faults) in enumerate(pool.results(read_batch, batches), 1):
            tables.append(several)
            errors.extend(fault.error() for fault in faults)
            progress.advance(done, len(batches))
    return _without_copies(Tables.concat(tables)), errors


def read_batch(sources: Sequence[Source]) -> tuple[Tables, list[Fault]]:
    """The tables of the files that can be read, one below the other, and the faults of the others."""
    builder = TableBuilder()
    faults: list[Fault] = []
    for source in sources:
        try:
            if source.found and not _looks_like_telemetry(Path(source.path)):
                raise NoTelemetryError(source.path, "holds no telemetry that can be read.")
            builder.add(source.path, needs_events=True)
        except InputError as error:
            faults.append(Fault.of(error))
    return builder.tables(), faults


def _looks_like_telemetry(path: Path) -> bool:
    from gradience_analysis.importers import find_importer

    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
    # What is wrong with a third-party importer is said where the file is read.
    return SCHEMA_ID.encode() in head or find_importer(path, report=lambda _: None) is not None


def _without_copies(tables: Tables) -> Tables:
    """A copy of a file is not a second segment of its run."""
    marks: dict[str, list[tuple[Any, ...]]] = {}
    for part in tables.parts.to_pylist():
        marks.setdefault(part["path"], []).append(tuple(part[name] for name in _SAME_COPY))
    first: dict[tuple[tuple[Any, ...], ...], str] = {}
    originals = {path: first.setdefault(tuple(mark), path) for path, mark in marks.items()}
    copies = {path: original for path, original in originals.items() if original != path}
    if not copies:
        return tables
    others = pa.array([path for path in marks if path not in copies], pa.string())
    every = {name: getattr(tables, name) for name in SCHEMAS}
    kept = {name: table.filter(pc.is_in(table["path"], value_set=others)) for name, table in every.items()}
    issues = [
        Issue("duplicate_file", Severity.INFO, f"holds the same records as {original} and is left out.", path).to_dict()
        for path, original in copies.items()
    ]
    counts = [{"path": one["path"], "code": one["code"], "severity": one["severity"], "count": 1} for one in issues]
    kept["issues"] = pa.concat_tables([kept["issues"], pa.Table.from_pylist(issues, schema=ISSUES)])
    kept["issue_counts"] = pa.concat_tables([kept["issue_counts"], pa.Table.from_pylist(counts, schema=ISSUE_COUNTS)])
    return Tables(**kept)


def of_runs(tables: Tables, run_ids: Sequence[str]) -> Tables:
    """The rows of some runs, and of the files they are in."""
    wanted = pa.array(run_ids, pa.string())
    kept: dict[str, Any] = {}
    for name in ("steps", "evals", "metrics", "alerts", "records", "parts"):
        table = getattr(tables, name)
        kept[name] = table.filter(pc.is_in(table["run_id"], value_set=wanted))
    paths = pc.unique(kept["parts"]["path"])
    for name in ("issues", "issue_counts", "bad_lines", "files"):
        table = getattr(tables, name)
        kept[name] = table.filter(pc.is_in(table["path"], value_set=paths))
    return Tables(**kept)
