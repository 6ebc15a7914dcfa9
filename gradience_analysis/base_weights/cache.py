"""A file that keeps the norms of base weights from one audit to the next, by content and never by a model's name.

A key is the SHA-256 of how the matrix is packed, and, for each tensor that it is made of, of its header entry, the size
and the time of change of its file, and a sample of its bytes (its ends and pieces in between). So it holds where a
model is moved or renamed, and does not where a file is written anew; a copy that does not keep times is measured anew.
What does not check out is passed over: nothing in the file is believed that is not a sound entry of ours.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from gradience_analysis.adapters.opening import open_plain, read_bounded
from gradience_analysis.adapters.strict_json import StrictJsonError, parse_object
from gradience_analysis.base_weights.checkpoint import Stored
from gradience_analysis.base_weights.weight import Weight
from gradience_analysis.errors import InputError

SCHEMA = "gradience.base-norms/v1"
_START = b'{"schema": "gradience.base-norms/'
_MAX_BYTES = 64 << 20
_END_BYTES = 64 << 10
_PIECES = 32
_PIECE_BYTES = 4 << 10


@dataclass(frozen=True, slots=True)
class KeptNorm:
    """Norms of one matrix as the cache keeps them, the fields as in BaseNorm; nothing is looked up by `tensor`."""

    tensor: str
    spectral: float
    frobenius: float
    tolerance: float
    residual: float
    steps: int


def content_key(weight: Weight) -> str:
    """What a matrix is known by: SHA-256 over its packing and the content of its tensors.

    Raises:
        InputError: A file cannot be read any more.
    """
    digest = hashlib.sha256(json.dumps([SCHEMA, weight.quantization, weight.shape, weight.part]).encode())
    for stored in weight.parts:
        _add(digest, stored)
    return digest.hexdigest()


def _add(digest: Any, stored: Stored) -> None:
    path, header, entry = stored
    with open_plain(path) as file:
        changed = os.fstat(file.fileno()).st_mtime_ns
        described = [entry.name, entry.dtype, entry.shape, entry.begin, entry.end, header.file_size, changed]
        digest.update(json.dumps(described).encode())
        for begin, end in _sample(entry.end - entry.begin):
            file.seek(header.data_start + entry.begin + begin)
            digest.update(file.read(end - begin))


def _sample(size: int) -> list[tuple[int, int]]:
    """The pieces of a tensor that are looked at: all of a small one."""
    if size <= 2 * _END_BYTES + _PIECES * _PIECE_BYTES:
        return [(0, size)]
    places = [size * number // (_PIECES + 1) for number in range(1, _PIECES + 1)]
    return [(0, _END_BYTES), *((place, place + _PIECE_BYTES) for place in places), (size - _END_BYTES, size)]


class NormCache:
    """The cache, read at the start and written at the end.

    Attributes:
        used: Whether there is a file to keep norms in.
    """

    def __init__(self, path: Path | None) -> None:
        self.used = path is not None
        self._path = path
        self._entries: dict[str, KeptNorm] = {}
        self._remarks: list[str] = []
        self._writable = True
        self._changed = False
        if path is not None and os.path.lexists(path):
            self._read(path)

    def get(self, key: str, tolerance: float) -> KeptNorm | None:
        """The norms of that key, where they are kept with that tolerance or a finer one."""
        kept = self._entries.get(key)
        return kept if kept is not None and kept.tolerance <= tolerance else None

    def put(self, key: str, norm: KeptNorm) -> None:
        """Keep norms that were computed."""
        if self.used:
            self._entries[key] = norm
            self._changed = True

    def save(self) -> list[str]:
        """Write what was added, all at once or not at all.

        Returns:
            Remarks: a cache that could not be read or written.
        """
        if self._path is not None and self._writable and self._changed:
            try:
                _write(self._path, self._text())
            except OSError as error:
                reason = error.strerror or str(error)
                self._remarks.append(f"The cache of base norms {self._path} could not be written: {reason}.")
        return self._remarks

    def _read(self, path: Path) -> None:
        try:
            data = read_bounded(path, _MAX_BYTES)
        except InputError as error:
            self._writable = False
            self._remarks.append(f"The cache of base norms was not used: {error.message}")
            return
        if not data:
            return
        # A file that is not ours was named by mistake: it is left as it is.
        self._writable = data.startswith(_START)
        try:
            found = parse_object(data)
        except StrictJsonError as error:
            self._distrust(path, error.message)
            return
        listed = found.get("entries")
        if found.get("schema") != SCHEMA or not isinstance(listed, dict):
            self._distrust(path, f"does not say that it is {SCHEMA}")
            return
        entries = cast("dict[str, Any]", listed)
        sound = {key: kept for key, value in entries.items() if (kept := _kept(key, value))}
        if len(sound) < len(entries):
            self._distrust(path, f"has {len(entries) - len(sound):,} entries that do not check out")
        self._entries = sound

    def _distrust(self, path: Path, what: str) -> None:
        after = "that is computed anew" if self._writable else "it was not used, and is left as it is"
        self._remarks.append(f"The cache of base norms {path} {what}; {after}.")

    def _text(self) -> bytes:
        entries = {key: {**asdict(kept), "check": _check(key, kept)} for key, kept in sorted(self._entries.items())}
        return (json.dumps({"schema": SCHEMA, "entries": entries}, indent=None) + "\n").encode()


def _kept(key: str, value: object) -> KeptNorm | None:
    """An entry that is complete, of sound numbers, and unchanged since it was written; else None."""
    if not isinstance(value, dict):
        return None
    fields = cast("Mapping[str, Any]", value)
    numbers = tuple(_number(fields.get(name)) for name in ("spectral", "frobenius", "tolerance", "residual"))
    tensor, steps = fields.get("tensor"), fields.get("steps")
    if not isinstance(tensor, str) or type(steps) is not int or min(numbers) < 0:
        return None
    kept = KeptNorm(tensor, numbers[0], numbers[1], numbers[2], numbers[3], steps)
    return kept if fields.get("check") == _check(key, kept) else None


def _number(value: object) -> float:
    """A finite number; -1 for anything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else -1.0


def _check(key: str, kept: KeptNorm) -> str:
    """A check sum by which a number that was changed is found."""
    return hashlib.sha256(json.dumps([key, asdict(kept)], sort_keys=True).encode()).hexdigest()[:16]


def _write(path: Path, text: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)  # noqa: PTH105 - the temporary name is no Path
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
