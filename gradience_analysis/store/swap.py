"""Replaces files of a store so that whoever comes after a kill, or reads meanwhile, sees all of a change or none of it.

A change is written aside, file by file (`part.parquet.new`). Then one rename puts `gradience-store.next.json` in place,
which lists every file of the store with its checksums: from there on the change holds, and what is left, renaming each
file over the one it replaces, can be done by whoever comes next. A plain `SELECT` over the Parquet files sees each
table whole at any time.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from gradience_analysis.errors import InputError
from gradience_analysis.store.manifest import Entry, Manifest, ManifestError, load
from gradience_analysis.store.place import DAMAGED, INGEST_LOCK, MANIFEST, NEXT, PENDING, SWAP_LOCK, parquet_below

try:
    import fcntl
except ImportError:  # Windows has no flock: two ingests at once are then not kept apart
    fcntl = None  # type: ignore[assignment]


@contextmanager
def only_writer(root: Path) -> Generator[None]:
    """Hold the store for writing.

    Raises:
        InputError: Another ingest holds it, or it cannot be written to.
    """
    try:
        descriptor = os.open(root / INGEST_LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise InputError(str(root), f"cannot be written to: {os.strerror(error.errno or 0)}.") from error
    try:
        if not _lock(descriptor, exclusive=True, wait=False):
            raise InputError(str(root), "is being written to by another ingest.", "Try again when that has ended.")
        yield
    finally:
        os.close(descriptor)


@contextmanager
def at_rest(root: Path, *, swap: bool = False) -> Generator[None]:
    """Keep files from being replaced while they are read; with `swap`, keep readers away while they are replaced."""
    flags = os.O_CREAT | os.O_RDWR if swap else os.O_RDONLY
    try:
        descriptor = os.open(root / SWAP_LOCK, flags, 0o644)
    except OSError:
        if swap:
            raise
        # A copy of a store, which nobody writes to.
        yield
        return
    try:
        _lock(descriptor, exclusive=swap, wait=True)
        yield
    finally:
        os.close(descriptor)


def write_aside(root: Path, name: str, data: bytes) -> Entry:
    """Write what is to become a file of the store, to the disk, and give its entry.

    Raises:
        InputError: The disk is full, or refuses for another reason; what there was stays.
    """
    path = root / (name + PENDING)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, data)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(str(path), f"cannot be written: {reason}.", "The store is as it was before.") from error
    return Entry.of(data)


def publish(root: Path, manifest: Manifest) -> None:
    """Make what was written aside, and this manifest, the store."""
    for folder in sorted({(root / name).parent for name in manifest.files}):
        _sync_folder(folder)
    with at_rest(root, swap=True):
        _write(root / (NEXT + PENDING), manifest.dumps())
        (root / (NEXT + PENDING)).replace(root / NEXT)
        _sync_folder(root)
        _carry_out(root, manifest)


def recover(root: Path, tables: tuple[str, ...]) -> Manifest | None:
    """Carry out a change that was decided, drop one that was not, and give the manifest; None when it is damaged."""
    try:
        manifest, decided = load(root)
    except (FileNotFoundError, ManifestError):
        for name in (MANIFEST, NEXT):
            if (root / name).exists():
                set_aside(root, name)
        manifest, decided = None, False
    if manifest is not None and decided:
        with at_rest(root, swap=True):
            _carry_out(root, manifest)
    for name in parquet_below(root, tables, PENDING):
        (root / name).unlink()
    (root / (NEXT + PENDING)).unlink(missing_ok=True)
    return manifest


def set_aside(root: Path, name: str) -> str:
    """Rename a file to one that ends in `.damaged`, and give the new name."""
    for number in range(1, 1 << 20):
        aside = name + DAMAGED + (f".{number}" if number > 1 else "")
        if not (root / aside).exists():
            (root / name).rename(root / aside)
            return aside
    raise InputError(str(root / name), "has been set aside too often.", "Delete the files that end in .damaged.")


def _carry_out(root: Path, manifest: Manifest) -> None:
    folders: set[Path] = set()
    for name in manifest.files:
        pending = root / (name + PENDING)
        if pending.exists():
            pending.replace(root / name)
            folders.add(pending.parent)
    for name in _no_longer_listed(root, manifest):
        (root / name).unlink(missing_ok=True)
    for folder in sorted(folders):
        _sync_folder(folder)
    (root / NEXT).replace(root / MANIFEST)
    _sync_folder(root)


def _no_longer_listed(root: Path, manifest: Manifest) -> set[str]:
    from gradience_analysis.store.manifest import loads

    try:
        before = loads((root / MANIFEST).read_bytes(), root / MANIFEST)
    except (FileNotFoundError, ManifestError):
        return set()
    return before.files.keys() - manifest.files.keys()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, exclusive: bool, wait: bool) -> bool:
    """Take a lock; True also where the file system has none."""
    if fcntl is None:
        return True
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
