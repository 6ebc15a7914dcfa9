"""Where things are in a store, and which bucket a run belongs to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FORMAT: Final = "gradience.store/v1"
MANIFEST: Final = "gradience-store.json"
NEXT: Final = "gradience-store.next.json"
"""The manifest of a change that has been decided and is being carried out."""
INGEST_LOCK: Final = "gradience-store.lock"
SWAP_LOCK: Final = "gradience-store.swap-lock"
PENDING: Final = ".new"
"""What the name of a file ends with that takes the place of one without it."""
DAMAGED: Final = ".damaged"
BUCKETS: Final = 16
"""Buckets of a new store.

A changed run rewrites one bucket: more buckets make that cheaper, and make every store consist of more files. 16 make
at most 192 files, and 80 kB of 1M rows' 1.3 MB the cost of the smallest change; a bucket of 100M rows is 130 MB.
"""

_PART: Final = "part.parquet"


def is_store(path: str | Path) -> bool:
    """Whether a path is a folder that `gradience ingest` has made; reads nothing in it."""
    return any(os.path.isfile(os.path.join(path, name)) for name in (MANIFEST, NEXT))  # noqa: PTH113, PTH118


def bucket_of(name: str, buckets: int) -> int:
    """The bucket of a run by its run_id: the first 8 bytes of its SHA-256, big endian, modulo the number of buckets."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % buckets


def part_name(table: str, bucket: int) -> str:
    """The file of a table's bucket, relative to the store, such as `steps/bucket=07/part.parquet`."""
    return f"{table}/bucket={bucket:02}/{_PART}"


def table_and_bucket(name: str) -> tuple[str, int]:
    """What `part_name` was given.

    Raises:
        ValueError: It is not such a name.
    """
    table, bucket, _ = name.split("/")
    return table, int(bucket.removeprefix("bucket="))


def parquet_below(root: Path, tables: tuple[str, ...], ending: str = ".parquet") -> Iterator[str]:
    """Every file of that ending in the folders of these tables, whoever put it there, relative to the store."""
    for table in tables:
        for folder, _, files in os.walk(root / table):
            for name in sorted(files):
                if name.endswith(ending):
                    yield (Path(folder) / name).relative_to(root).as_posix()
