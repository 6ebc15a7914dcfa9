"""Writes the buckets that a change touches, and publishes them together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from gradience_analysis.store.contents import STORED, Source, findings_table, sources_table
from gradience_analysis.store.inspection import State
from gradience_analysis.store.manifest import Entry
from gradience_analysis.store.merge import Fresh, merged, paths_in, rows_of
from gradience_analysis.store.parquet import identities, read_part, to_bytes
from gradience_analysis.store.place import bucket_of, part_name
from gradience_analysis.store.swap import write_aside


def write_buckets(state: State, affected: Collection[int], fresh: Sequence[Fresh], replaced: Collection[str]) -> int:
    """Write the files of buckets anew where they change, and make them the store's, all at once.

    Args:
        state: The store; its `known` and `findings` say what it is to hold, its `files` are brought up to date.
        affected: Buckets in which something may change.
        fresh: Files that were read.
        replaced: Paths whose rows of before are dropped.

    Returns:
        How many files were written.
    """
    sources: dict[int, list[Source]] = defaultdict(list)
    for source in state.known.values():
        for number in source.touches(state.buckets):
            sources[number].append(source)
    brought: dict[int, list[Fresh]] = defaultdict(list)
    for one in fresh:
        for number in one.source.touches(state.buckets):
            brought[number].append(one)
    written = 0
    for number in sorted(affected):
        bucket = _Bucket(state, number, sources[number], brought[number], replaced)
        written += sum(bucket.write(table) for table in STORED)
    # A file made anew may be what the manifest says already.
    if written or state.files != state.published:
        state.publish()
    return written


@dataclass(frozen=True)
class _Bucket:
    """A bucket that may change.

    Attributes:
        state: The store.
        number: Which bucket.
        sources: The files that are to have rows in it.
        fresh: Those of them that were read.
        replaced: Paths whose rows of before are dropped.
    """

    state: State
    number: int
    sources: Sequence[Source]
    fresh: Sequence[Fresh]
    replaced: Collection[str]

    def write(self, table: str) -> bool:
        """Write a table's file aside if it changes; whether it did."""
        name = part_name(table, self.number)
        if not self.sources:
            self.state.files.pop(name, None)
        elif self._alters(table):
            data = self._content(table)
            if self.state.files.get(name) != Entry.of(data):
                self.state.files[name] = write_aside(self.state.root, name, data)
                return True
        return False

    def _alters(self, table: str) -> bool:
        """Whether a file may come out different; its metadata names whose rows it has."""
        name = part_name(table, self.number)
        entry = self.state.files.get(name)
        if self.state.doubtful or entry is None or table in {"findings", "sources"}:
            return True
        if any(map(len, self._added(table))):
            return True
        return any(identity["path"] in self.replaced for identity in identities(self.state.root / name, entry))

    def _added(self, table: str) -> list[Any]:
        return [rows_of(one, table, self.number, self.state.buckets) for one in self.fresh]

    def _content(self, table: str) -> bytes:
        """The bytes of one file."""
        place = (self.number, self.state.buckets)
        if table == "sources":
            own = [source for source in self.sources if source.home(self.state.buckets) == self.number]
            return to_bytes(sources_table(own), table, place, ())
        if table == "findings":
            run_ids = {run_id for source in self.sources for run_id in source.run_ids}
            mine = {run_id for run_id in run_ids if bucket_of(run_id, self.state.buckets) == self.number}
            findings = [self.state.findings[run_id] for run_id in mine]
            origins = [source for source in self.sources if mine.intersection(source.run_ids)]
            return to_bytes(findings_table(findings), table, place, origins)
        rows = self._rows(table)
        there = paths_in(rows)
        return to_bytes(rows, table, place, [source for source in self.sources if source.path in there])

    def _rows(self, table: str) -> Any:
        name = part_name(table, self.number)
        entry = self.state.files.get(name)
        old = None if entry is None else read_part(self.state.root / name, entry)
        stay = {source.path: source for source in self.sources if source.path not in self.replaced}
        return merged(table, old, stay, [rows for rows in self._added(table) if len(rows)])
