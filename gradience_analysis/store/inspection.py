"""What of a store is whole: every file is held against the manifest before anything is added to it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradience_analysis.errors import InputError
from gradience_analysis.store.contents import OF_RUNS, STORED, Finding, Source, columns_of, sources_in
from gradience_analysis.store.manifest import Entry, Manifest
from gradience_analysis.store.parquet import adopted, identities, read_part
from gradience_analysis.store.place import (
    BUCKETS,
    DAMAGED,
    INGEST_LOCK,
    MANIFEST,
    PENDING,
    SWAP_LOCK,
    is_store,
    parquet_below,
    part_name,
    table_and_bucket,
)
from gradience_analysis.store.swap import publish, recover, set_aside

_TABLES = tuple(STORED)
_OURS = frozenset({INGEST_LOCK, SWAP_LOCK, *STORED})


@dataclass
class State:
    """A store that is being written to.

    Attributes:
        root: Its folder.
        buckets: How many buckets it has.
        files: Its whole Parquet files, by name.
        published: What its manifest says on the disk.
        known: The files that it was made from, by path.
        findings: The finding of each run.
        holes: Files that it should have and does not: tables and their buckets.
        aside: What was set aside, by its new name, and what is missing.
        lossy: Sources of which a hole may have held rows.
        doubtful: Whether there was no manifest to hold the files against: they are used for what is nowhere else.
    """

    root: Path
    buckets: int
    files: dict[str, Entry]
    published: dict[str, Entry]
    known: dict[str, Source] = field(default_factory=dict[str, Source])
    findings: dict[str, Finding] = field(default_factory=dict[str, Finding])
    holes: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    aside: list[str] = field(default_factory=list[str])
    lossy: set[str] = field(default_factory=set[str])
    doubtful: bool = False

    def publish(self) -> None:
        """Make what there is now the store."""
        publish(self.root, Manifest(self.buckets, self.files))
        self.published = dict(self.files)


def prepare(root: Path) -> None:
    """Make the folder of a new store.

    Raises:
        InputError: There is something else in its place, or it cannot be made.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        there = [entry.name for entry in root.iterdir()]
    except OSError as error:
        raise InputError(str(root), f"cannot be made a store: {error.strerror or error}.") from error
    others = [name for name in there if name not in _OURS and not name.endswith((DAMAGED, PENDING))]
    if others and not is_store(root) and not (root / (MANIFEST + DAMAGED)).exists():
        raise InputError(
            str(root), f"is no store, and not empty: it holds {min(others)}.", "Name a new or an empty folder."
        )


def inspect(root: Path, buckets: int = BUCKETS) -> State:
    """Finish or undo what a kill interrupted, set aside what is damaged, and say what is left.

    Args:
        root: The folder, held by `only_writer`.
        buckets: How many buckets a new store is to have.
    """
    manifest = recover(root, _TABLES)
    state = _adopted(root, buckets) if manifest is None else _verified(root, manifest)
    _load(state)
    _find_holes(state)
    if not state.doubtful and manifest is None:
        state.publish()
    return state


def _verified(root: Path, manifest: Manifest) -> State:
    state = State(root, manifest.buckets, {}, dict(manifest.files))
    for name, entry in manifest.files.items():
        try:
            whole = Entry.of((root / name).read_bytes()) == entry
        except OSError:
            # Gone, or what the disk gives no longer: renaming it works in the second case.
            whole = False
        if whole:
            state.files[name] = entry
            continue
        state.holes.add(table_and_bucket(name))
        state.aside.append(set_aside(root, name) if (root / name).exists() else name)
    state.aside += [set_aside(root, name) for name in parquet_below(root, _TABLES) if name not in manifest.files]
    return state


def _adopted(root: Path, buckets: int) -> State:
    """A store whose manifest is damaged or gone: what is whole as far as its own checksums reach."""
    found: dict[str, tuple[Entry, int]] = {}
    state = State(root, buckets, {}, {})
    state.aside = sorted(entry.name for entry in root.iterdir() if entry.name.startswith(MANIFEST + DAMAGED))
    for name in list(parquet_below(root, _TABLES)):
        part = _part(name)
        adoptable = None if part is None else adopted(root / name, *part)
        if adoptable is None:
            state.aside.append(set_aside(root, name))
        else:
            found[name] = adoptable
    if found:
        state.buckets = Counter(number for _, number in found.values()).most_common(1)[0][0]
    for name, (entry, number) in found.items():
        if number == state.buckets:
            state.files[name] = entry
        else:
            state.aside.append(set_aside(root, name))
    state.doubtful = bool(state.files)
    return state


def _part(name: str) -> tuple[str, int] | None:
    try:
        table, bucket = table_and_bucket(name)
    except ValueError:
        return None
    return (table, bucket) if part_name(table, bucket) == name else None


def _load(state: State) -> None:
    for name, entry in state.files.items():
        table, _ = table_and_bucket(name)
        if table == "sources":
            sources = sources_in(read_part(state.root / name, entry))
            state.known |= {source.path: source for source in sources}
        elif table == "findings":
            findings = [Finding(**row) for row in read_part(state.root / name, entry).to_pylist()]
            state.findings |= {finding.run_id: finding for finding in findings}


def _find_holes(state: State) -> None:
    """Name every file that should be there, and have read again what it was made from."""
    unknown = {bucket for table, bucket in state.holes if table == "sources"}
    present = {table_and_bucket(name) for name in state.files}
    unknown |= {bucket for _, bucket in present if ("sources", bucket) not in present}
    for bucket in sorted(unknown):
        state.known = _remembered(state, bucket) | state.known
    for source in state.known.values():
        touched = {(table, bucket) for table in STORED for bucket in _buckets(state, source, table)}
        state.holes |= touched - present
        if any(table not in {"findings", "sources"} for table, _ in touched & state.holes):
            state.lossy.add(source.path)
        if state.doubtful or any(table != "findings" for table, _ in touched & state.holes):
            state.known[source.path] = Source(source.path, None, None, None, source.run_ids, source.columns)


def _buckets(state: State, source: Source, table: str) -> set[int]:
    return source.touches(state.buckets) if table in OF_RUNS else {source.home(state.buckets)}


def _remembered(state: State, bucket: int) -> dict[str, Source]:
    """The sources of a bucket as the other tables' metadata names them; to be read again."""
    runs: dict[str, dict[str, None]] = defaultdict(dict)
    paths: set[str] = set()
    columns: dict[str, str] = {}
    for table in STORED:
        name = part_name(table, bucket)
        entry = state.files.get(name)
        if entry is None or "path" not in STORED[table].names:
            continue
        paths.update(identity["path"] for identity in identities(state.root / name, entry))
        if table in OF_RUNS:
            for row in _distinct(read_part(state.root / name, entry, columns=["path", "run_id"])):
                runs[row["path"]][row["run_id"]] = None
        if table == "steps":
            columns = columns_of(read_part(state.root / name, entry))
    return {path: Source(path, None, None, None, tuple(runs[path]), columns) for path in sorted(paths)}


def _distinct(table: Any) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = table.group_by(["path", "run_id"]).aggregate([]).to_pylist()
    return rows
