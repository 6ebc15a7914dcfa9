"""Reads a store: the same tables as the JSONL gives, and of them only what is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from gradience_analysis.errors import InputError
from gradience_analysis.store.contents import OF_RUNS, STORED, Source, sources_in
from gradience_analysis.store.manifest import Manifest, ManifestError, load
from gradience_analysis.store.order import Span, decoded, in_file_order, spans
from gradience_analysis.store.parquet import DamagedFileError, read_part
from gradience_analysis.store.place import MANIFEST, PENDING, bucket_of, part_name
from gradience_analysis.store.swap import at_rest
from gradience_analysis.tables.arrow import pa, pc
from gradience_analysis.tables.bundle import Tables
from gradience_analysis.tables.columns import TEXT, concat_steps
from gradience_analysis.tables.layout import SCHEMAS

_PATH = ("path",)


def open_store(path: str | Path) -> Store:
    """A store that `gradience ingest` has made.

    Raises:
        InputError: It is none, or one of another version.
    """
    store = Store(Path(path))
    store.manifest()
    return store


class Store:
    """A store, as it is at each call: one that is being written to meanwhile shows all of a change or none of it.

    Args:
        path: Its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def manifest(self) -> Manifest:
        """What it holds now.

        Raises:
            InputError: It is no store, one of another version, or its manifest is damaged.
        """
        with at_rest(self.path):
            return self._now().manifest

    def run_ids(self) -> list[str]:
        """Every run, in order of the first path that has it, and in a file of appearance."""
        return list(dict.fromkeys(run_id for source in self._sources() for run_id in source.run_ids))

    def sources(self) -> Any:
        """The files that it was made from, as `contents.SOURCES`, by path."""
        return self._whole("sources", None).sort_by("path")

    def findings(self, run_ids: Collection[str] | None = None) -> Any:
        """How many findings each run has, as `contents.FINDINGS`, by run.

        Args:
            run_ids: Only of these runs; one that is not there gives no row.
        """
        return self._whole("findings", run_ids).sort_by("run_id")

    def read(
        self,
        run_ids: Collection[str] | None = None,
        tables: Collection[str] | None = None,
        columns: Mapping[str, Collection[str]] | Collection[str] | None = None,
    ) -> Tables:
        """Read tables as the JSONL files give them, in order of their paths and lines.

        Args:
            run_ids: Only rows of these runs, and of the files that hold them; None for all. One that is not there gives
                no row.
            tables: Only these of the tables of `layout.SCHEMAS`; the others come without a row.
            columns: Only these columns: for each table that is named, or of every table those of them that it has. The
                text beside a column comes with it.

        Raises:
            InputError: There is no such table, or a file of the store is damaged (the message says what to do).
        """
        wanted = list(SCHEMAS) if tables is None else list(tables)
        unknown = sorted(set(wanted) - SCHEMAS.keys())
        if unknown:
            raise InputError(str(self.path), f"has no table {unknown[0]!r}.", f"Tables: {', '.join(SCHEMAS)}.")
        with at_rest(self.path):
            now = self._now()
            runs = None if run_ids is None else now.chosen(frozenset(run_ids))
            found = {name: now.table(name, runs, _columns_for(name, columns)) for name in wanted}
        return dataclasses.replace(Tables.empty(), **found)

    def _sources(self) -> list[Source]:
        return sources_in(self.sources())

    def _whole(self, table: str, run_ids: Collection[str] | None) -> Any:
        with at_rest(self.path):
            now = self._now()
            buckets = range(now.manifest.buckets) if run_ids is None else _buckets(run_ids, now.manifest.buckets)
            return pa.concat_tables([STORED[table].empty_table(), *now.parts(table, buckets, run_ids=run_ids)])

    def _now(self) -> _Content:
        try:
            return _Content(self.path, *load(self.path))
        except FileNotFoundError:
            raise InputError(
                str(self.path), "is no store.", "`gradience ingest PATHS --store DIR` makes one."
            ) from None
        except ManifestError as error:
            raise DamagedFileError(self.path / MANIFEST) from error


class _Runs(NamedTuple):
    """Some runs, and the files that hold them."""

    run_ids: frozenset[str]
    sources: list[Source]


class _Content(NamedTuple):
    """What a store holds while nobody replaces its files."""

    root: Path
    manifest: Manifest
    pending: bool

    def chosen(self, run_ids: frozenset[str]) -> _Runs:
        """Those runs."""
        known = [source for part in self.parts("sources", range(self.manifest.buckets)) for source in sources_in(part)]
        return _Runs(run_ids, [source for source in known if run_ids.intersection(source.run_ids)])

    def table(self, name: str, runs: _Runs | None, columns: list[str] | None) -> Any:
        """One table, or what of it belongs to these runs."""
        # Runs that share a file lie apart; rows that belong to a file alone lie as they were read.
        key = next((key for key in ("line", "part") if name in OF_RUNS and key in STORED[name].names), None)
        asked = None if columns is None else [*columns, "path", *([key] if key else ())]
        buckets = self.manifest.buckets
        if runs is None:
            parts = self.parts(name, range(buckets), columns=asked, encoded=_PATH)
        elif name in OF_RUNS:
            parts = self.parts(
                name, _buckets(runs.run_ids, buckets), run_ids=runs.run_ids, columns=asked, encoded=_PATH
            )
        else:
            paths = pa.array([source.path for source in runs.sources], pa.string())
            whole = self.parts(name, {source.home(buckets) for source in runs.sources}, columns=asked, encoded=_PATH)
            parts = [part.filter(pc.is_in(part["path"], value_set=paths)) for part in whole]
        found: list[Span] = []
        plain: list[Any] = []
        for part in parts:
            found += spans(part["path"], sum(map(len, plain)))
            place = part.schema.get_field_index("path")
            shown = columns is None or "path" in columns
            plain.append(
                part.set_column(place, "path", decoded(part["path"])) if shown else part.drop_columns(["path"])
            )
        if not found:
            return _narrow(STORED[name].empty_table(), columns)
        joined = concat_steps(plain) if name == "steps" else pa.concat_tables(plain)
        return _narrow(in_file_order(joined, found, joined[key] if key else None), columns)

    def parts(
        self,
        table: str,
        buckets: Collection[int],
        *,
        run_ids: Collection[str] | None = None,
        columns: Collection[str] | None = None,
        encoded: Sequence[str] = (),
    ) -> list[Any]:
        """The rows of a table, bucket by bucket; columns in `encoded` are left dictionary-encoded."""
        found: list[Any] = []
        for bucket in sorted(buckets):
            name = part_name(table, bucket)
            entry = self.manifest.files.get(name)
            if entry is not None:
                aside = self.root / (name + PENDING)
                path = aside if self.pending and aside.exists() else self.root / name
                found.append(read_part(path, entry, run_ids=run_ids, columns=columns, encoded=encoded))
        return found


def _buckets(run_ids: Collection[str], buckets: int) -> set[int]:
    return {bucket_of(run_id, buckets) for run_id in run_ids}


def _columns_for(name: str, columns: Mapping[str, Collection[str]] | Collection[str] | None) -> list[str] | None:
    if isinstance(columns, Mapping):
        chosen = cast("Mapping[str, Collection[str]]", columns).get(name)
        return None if chosen is None else list(chosen)
    return None if columns is None else list(columns)


def _narrow(table: Any, columns: list[str] | None) -> Any:
    if columns is None:
        return table
    return table.select([name for name in table.column_names if name.removesuffix(TEXT) in columns or name in columns])
