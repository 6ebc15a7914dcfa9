"""Which tables a store holds, and what it knows about each file that it was made from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gradience_analysis.store.place import bucket_of
from gradience_analysis.tables.arrow import pa
from gradience_analysis.tables.columns import TEXT
from gradience_analysis.tables.layout import SCHEMAS, STEPS

SOURCES: Final[Any] = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("sha256", pa.string()),
        ("run_ids", pa.list_(pa.string())),
        ("columns", pa.string()),
    ]
)
"""One row a file that the store was made from: its name, its identity, the runs in it, and its step columns' types.

Size, time of change and SHA-256 are of the file as it is on the disk, compressed or not. They are null when rows that
came from the file were lost: it is read again.
"""

FINDINGS: Final[Any] = pa.schema(
    [
        ("run_id", pa.string()),
        *((severity, pa.int64()) for severity in ("critical", "error", "warning", "info")),
        ("policy_version", pa.int32()),
        ("reason", pa.string()),
    ]
)
"""One row a run: how many findings of each severity the diagnostics made; null, with the reason, when none could be."""

STORED: Final[Mapping[str, Any]] = {**SCHEMAS, "findings": FINDINGS, "sources": SOURCES}
"""Every table of a store, with the columns that it has at least."""

OF_RUNS: Final = frozenset(name for name, schema in STORED.items() if "run_id" in schema.names)
"""Tables whose rows belong to a run and lie in its bucket; the others' belong to a file and lie in its first run's."""

_FIXED: Final = frozenset(STEPS.names)


@dataclass(frozen=True)
class Source:
    """A file that the store was made from.

    Attributes:
        path: Absolute, without symbolic links but for its last part.
        size: Bytes on the disk; None when rows of it were lost.
        mtime_ns: When it was last changed, in ns since 1970; None likewise.
        sha256: Of its bytes, in hexadecimal; None likewise.
        run_ids: Its runs, in order of first appearance.
        columns: Name and type of each column that its steps have beyond those that all have.
    """

    path: str
    size: int | None
    mtime_ns: int | None
    sha256: str | None
    run_ids: tuple[str, ...]
    columns: Mapping[str, str]

    def home(self, buckets: int) -> int:
        """The bucket of the rows that belong to no run: that of the first run, or of the path without one."""
        return bucket_of(self.run_ids[0] if self.run_ids else self.path, buckets)

    def touches(self, buckets: int) -> set[int]:
        """Every bucket that rows of the file lie in."""
        return {self.home(buckets), *(bucket_of(run_id, buckets) for run_id in self.run_ids)}

    def identity(self) -> dict[str, Any]:
        """What the metadata of Parquet files says about it; the time of change is no part of what was read."""
        return {"path": self.path, "size": self.size, "sha256": self.sha256}


class Finding(NamedTuple):
    """A row of `FINDINGS`."""

    run_id: str
    critical: int | None
    error: int | None
    warning: int | None
    info: int | None
    policy_version: int
    reason: str | None


def columns_of(steps: Any) -> dict[str, str]:
    """`Source.columns` of a `steps` table; empty for one without a row, which has no say in any column's type."""
    return {field.name: str(field.type) for field in steps.schema if field.name not in _FIXED} if len(steps) else {}


def type_named(name: str) -> Any:
    """The Arrow type that `columns_of` named."""
    return pa.type_for_alias(name)


def sources_table(sources: Iterable[Source]) -> Any:
    """Rows of `SOURCES`, by path."""
    rows = [
        {
            "path": source.path,
            "size": source.size,
            "mtime_ns": source.mtime_ns,
            "sha256": source.sha256,
            "run_ids": list(source.run_ids),
            "columns": json.dumps(source.columns, sort_keys=True, ensure_ascii=False),
        }
        for source in sorted(sources, key=lambda source: source.path)
    ]
    return pa.Table.from_pylist(rows, schema=SOURCES)


def sources_in(table: Any) -> list[Source]:
    """The sources of such a table."""
    rows: list[dict[str, Any]] = table.to_pylist()
    return [
        Source(
            path=row["path"],
            size=row["size"],
            mtime_ns=row["mtime_ns"],
            sha256=row["sha256"],
            run_ids=tuple(row["run_ids"]),
            columns=json.loads(row["columns"]),
        )
        for row in rows
    ]


def findings_table(findings: Iterable[Finding]) -> Any:
    """Rows of `FINDINGS`, by run."""
    rows = [finding._asdict() for finding in sorted(findings, key=lambda finding: finding.run_id)]
    return pa.Table.from_pylist(rows, schema=FINDINGS)


def unclear(sources: Sequence[Source]) -> set[str]:
    """Paths whose step columns cannot be told from the store alone.

    Where one file has a column of integers and another one of floats, both lie in the store as floats, and the column
    of text beside them holds what a float cannot. If a file brought text of its own to that column, a text that looks
    like an integer may be either: such a file is read again when its bucket changes.
    """
    kinds: dict[str, set[str]] = {}
    for source in sources:
        for name, kind in source.columns.items():
            kinds.setdefault(name, set()).add(kind)
    return {
        source.path
        for source in sources
        for name in source.columns
        if len(kinds[name]) > 1 and name + TEXT in source.columns
    }
