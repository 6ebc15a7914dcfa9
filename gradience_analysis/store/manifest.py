"""The list of a store's files with what is in them, so that no changed byte is ever taken for data."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from gradience_analysis.errors import GradienceError, InputError
from gradience_analysis.store.blocks import checksums
from gradience_analysis.store.place import BUCKETS, FORMAT, MANIFEST, NEXT
from gradience_schema import SCHEMA_ID

_MALFORMED: Final = (ValueError, KeyError, TypeError, AttributeError)


class ManifestError(GradienceError):
    """A manifest that is not what was written."""


class Entry(NamedTuple):
    """One file of a store.

    Attributes:
        size: Bytes.
        sha256: Of all of them, in hexadecimal.
        blocks: What `checksums` makes of them.
    """

    size: int
    sha256: str
    blocks: tuple[int, ...]

    @classmethod
    def of(cls, data: bytes) -> Entry:
        """The entry of a file with this content."""
        return cls(len(data), hashlib.sha256(data).hexdigest(), checksums(data))


@dataclass(frozen=True)
class Manifest:
    """What a store holds.

    Attributes:
        buckets: Number of buckets.
        files: Its Parquet files by name, relative to the store.
    """

    buckets: int = BUCKETS
    files: Mapping[str, Entry] = field(default_factory=dict[str, Entry])

    def dumps(self) -> bytes:
        """As JSON, the same bytes for the same content, with a checksum of itself."""
        document = {
            "format": FORMAT,
            "telemetry_schema": SCHEMA_ID,
            "buckets": self.buckets,
            "files": {name: entry._asdict() for name, entry in sorted(self.files.items())},
        }
        return _encoded({**document, "sha256": hashlib.sha256(_encoded(document)).hexdigest()})


def loads(data: bytes, path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        InputError: It is that of a store of another version.
        ManifestError: It is not what was written.
    """
    try:
        document: dict[str, Any] = json.loads(data)
        digest = document.pop("sha256")
        if digest != hashlib.sha256(_encoded(document)).hexdigest():
            raise ManifestError(f"{path} is not what was written.")
        if document["format"] != FORMAT or document["telemetry_schema"] != SCHEMA_ID:
            raise InputError(
                str(path.parent),
                f"is a store of format {document['format']!r}; this release reads {FORMAT}.",
                "Make a new one from the JSONL: gradience ingest PATHS --store ANOTHER.",
            )
        files = {
            name: Entry(entry["size"], entry["sha256"], tuple(entry["blocks"]))
            for name, entry in document["files"].items()
        }
        return Manifest(document["buckets"], files)
    except _MALFORMED as error:
        raise ManifestError(f"{path} is not what was written.") from error


def load(root: Path) -> tuple[Manifest, bool]:
    """The manifest that holds now, and whether it is that of a change which is still being carried out.

    Raises:
        FileNotFoundError: There is none.
        InputError: It is that of a store of another version, or cannot be read.
        ManifestError: It is not what was written.
    """
    for name in (NEXT, MANIFEST):
        path = root / name
        try:
            return loads(path.read_bytes(), path), name == NEXT
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(str(path), f"cannot be read: {os.strerror(error.errno or 0)}.") from error
    raise FileNotFoundError(root / MANIFEST)


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
