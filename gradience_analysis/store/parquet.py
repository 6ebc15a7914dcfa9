"""One table to the bytes of one Parquet file, the same bytes for the same rows, and back.

Strings are dictionary-encoded, integers as differences, and all of it is compressed by zstd, level 3. For floats none
of the encodings is best: numbers of full precision take least split by bytes, rounded ones in a dictionary. So the
first 16,384 rows of each float column are tried, and the smallest wins. 1M steps of 2,000 runs, 6 columns of floats, 4
of integers and 2 of text, in 16 files; CPU seconds on one core, as they are read (with the checksums), loss and
gradient norm of full precision, or rounded to 4 and 3 digits:

| encoding of floats | full, MB | rounded, MB | write, s | read all, s | read two columns, s |
|---|---|---|---|---|---|
| dictionary | 25.8 | 11.4 | .27-.35 | .11-.13 | .016-.024 |
| plain | 21.1 | 11.6 | .21-.26 | .12 | .019-.020 |
| byte_stream_split | 19.0 | 18.6 | .17-.18 | .10-.11 | .015 |
| whichever is smallest | 18.0 | 9.2 | .31-.36 | .10 | .016-.021 |
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from gradience_analysis.errors import InputError
from gradience_analysis.store.blocks import CheckedFile
from gradience_analysis.store.contents import STORED, Source
from gradience_analysis.store.manifest import Entry
from gradience_analysis.store.place import FORMAT
from gradience_analysis.tables.arrow import pa, pc
from gradience_analysis.tables.columns import TEXT
from gradience_schema import SCHEMA_ID

pq: Any = import_module("pyarrow.parquet")

ROW_GROUP: Final = 1 << 16
"""Rows of a row group. Rows are ordered by run, so that a reader of few runs skips the groups of the others."""

_SAMPLE_ROWS: Final = 1 << 14
_ZSTD: Final[Mapping[str, Any]] = {"compression": "zstd", "compression_level": 3}
_FLOATS: Final[tuple[Mapping[str, Any], ...]] = (
    {"use_dictionary": True},
    {"use_dictionary": False, "column_encoding": "BYTE_STREAM_SPLIT"},
    {"use_dictionary": False, "column_encoding": "PLAIN"},
)
_UNREADABLE: Final = (pa.ArrowException, OSError, ValueError, KeyError)


class DamagedFileError(InputError):
    """A file of a store that is missing, or no longer what was written."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            str(path),
            "is missing, or not what `gradience ingest` wrote.",
            "Ingest into the store again: what is damaged is set aside and made anew from the JSONL.",
        )


def to_bytes(table: Any, name: str, bucket: tuple[int, int], sources: Sequence[Source]) -> bytes:
    """The Parquet file of one bucket of a table.

    Args:
        table: Its rows, in order.
        name: The table's name.
        bucket: The bucket's number, and how many there are.
        sources: The files that rows of it came from; named in the metadata.
    """
    about = {
        "gradience.format": FORMAT,
        "gradience.telemetry_schema": SCHEMA_ID,
        "gradience.table": name,
        "gradience.bucket": f"{bucket[0]} of {bucket[1]}",
        "gradience.sources": json.dumps(
            [source.identity() for source in sorted(sources, key=lambda source: source.path)], ensure_ascii=False
        ),
    }
    # One chunk a column: where chunks end depends on how the rows came together, and shows in the pages.
    whole = table.combine_chunks().replace_schema_metadata(about)
    sink = io.BytesIO()
    pq.write_table(whole, sink, row_group_size=ROW_GROUP, write_page_checksum=True, **_ZSTD, **_encodings(whole))
    return sink.getvalue()


def _encodings(table: Any) -> dict[str, Any]:
    chosen: dict[str, str] = {}
    dictionaries: list[str] = []
    for field in table.schema:
        if pa.types.is_floating(field.type):
            encoding = _smallest(table[field.name].slice(0, _SAMPLE_ROWS))
        else:
            encoding = "DELTA_BINARY_PACKED" if pa.types.is_integer(field.type) else None
        if encoding is not None:
            chosen[field.name] = encoding
        elif not pa.types.is_nested(field.type):
            dictionaries.append(field.name)
    return {"use_dictionary": dictionaries, "column_encoding": chosen}


def _smallest(column: Any) -> str | None:
    """The encoding that makes the first rows of a column smallest; None for a dictionary."""
    sizes: list[int] = []
    for options in _FLOATS:
        sink = io.BytesIO()
        pq.write_table(pa.table({"column": column}), sink, store_schema=False, **_ZSTD, **options)
        sizes.append(sink.tell())
    best = _FLOATS[sizes.index(min(sizes))]
    return best.get("column_encoding")


def read_part(
    path: Path,
    entry: Entry,
    *,
    run_ids: Collection[str] | None = None,
    columns: Collection[str] | None = None,
    encoded: Sequence[str] = (),
) -> Any:
    """The rows of one file.

    Args:
        path: The file.
        entry: What the manifest says about it: every byte that is read is held against it.
        run_ids: Only rows of these runs, where rows belong to runs.
        columns: Only those of these columns that there are, with the text beside them.
        encoded: Columns of text to give dictionary-encoded, which takes less memory and time.

    Raises:
        DamagedFileError: It is missing, or a byte that would have been read has changed.
    """
    try:
        with CheckedFile(path, entry.size, entry.blocks) as raw:
            file = pq.ParquetFile(raw, pre_buffer=False, read_dictionary=list(encoded))
            names: list[str] = file.schema_arrow.names
            by_run = run_ids is not None and "run_id" in names
            wanted = names if columns is None else [name for name in names if name.removesuffix(TEXT) in columns]
            groups = _groups(file, run_ids) if by_run and run_ids is not None else range(file.num_row_groups)
            asked = [*wanted, "run_id"] if by_run and "run_id" not in wanted else wanted
            table = file.read_row_groups(list(groups), columns=asked).select(asked)
    except _UNREADABLE as error:
        raise DamagedFileError(path) from error
    if by_run:
        table = table.filter(pc.is_in(table["run_id"], value_set=pa.array(sorted(run_ids or ()), pa.string())))
    return table.select(wanted).replace_schema_metadata(None)


def _groups(file: Any, run_ids: Collection[str]) -> list[int]:
    """Row groups that may hold one of the runs, by the lowest and the highest run_id in each."""
    place = file.schema_arrow.get_field_index("run_id")
    found: list[int] = []
    for group in range(file.num_row_groups):
        known = file.metadata.row_group(group).column(place).statistics
        if known is None or not known.has_min_max or any(known.min <= run_id <= known.max for run_id in run_ids):
            found.append(group)
    return found


def identities(path: Path, entry: Entry) -> list[dict[str, Any]]:
    """What the metadata of a file says about the files that its rows came from.

    Raises:
        DamagedFileError: It is missing, or not what was written.
    """
    try:
        with CheckedFile(path, entry.size, entry.blocks) as raw:
            about: dict[bytes, bytes] = pq.ParquetFile(raw, pre_buffer=False).schema_arrow.metadata or {}
            found: list[dict[str, Any]] = json.loads(about[b"gradience.sources"])
            return found
    except _UNREADABLE as error:
        raise DamagedFileError(path) from error


def adopted(path: Path, name: str, bucket: int) -> tuple[Entry, int] | None:
    """The entry of a file that no manifest lists any more, and the number of buckets; None when it is not whole."""
    try:
        data = path.read_bytes()
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        about: dict[bytes, bytes] = file.schema_arrow.metadata or {}
        place = about[b"gradience.bucket"].decode().split(" of ")
        mine = (about[b"gradience.format"].decode(), about[b"gradience.table"].decode(), int(place[0]))
        whole = mine == (FORMAT, name, bucket) and file.schema_arrow.names[: len(STORED[name])] == STORED[name].names
        file.read()
    except _UNREADABLE:
        return None
    return (Entry.of(data), int(place[1])) if whole else None
