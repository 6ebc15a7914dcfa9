"""Which files of an adapter's folder hold its weights; names and first bytes only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from gradience_analysis.adapters.opening import open_plain, read_bounded, unreadable
from gradience_analysis.adapters.strict_json import StrictJsonError, parse_object, shown
from gradience_analysis.errors import InputError

MAX_INDEX_BYTES = 16 << 20
INDEX_SUFFIX = ".safetensors.index.json"
_MAIN = "adapter_model"
_MAX_FILES = 10_000
_PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
# What a trainer keeps beside the weights; none of it is loaded with them.
_TRAINER_STATE = re.compile(r"(training_args|optimizer|scheduler|scaler|sampler|rng_state|random_states)[\w.-]*\Z")
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})\Z")
_FIRST_BYTES = 300
_MAGIC = ((0, b"PK\x03\x04", "zip archive"), (0, b"\x80", "pickle"), (257, b"ustar", "tar archive"))


@dataclass(frozen=True, slots=True)
class PickledFile:
    """A file that runs code when it is loaded as weights.

    Attributes:
        name: Its name in the folder.
        kind: What its first bytes say: `zip archive`, `pickle`, `tar archive`; `not read` for a file that cannot be.
    """

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The weight files of one folder. Names are relative to it.

    Attributes:
        folder: The folder.
        safetensors: Files to read, shards in order.
        index: Tensor → shard, as the index says; empty without one.
        missing_shards: Shards that the index or the shards' own numbering name, and that are not there.
        pickled: Weights as pickles.
        rivals: Other complete sets of safetensors weights in the same folder, which are not read.
        index_fault: What is wrong with the index; empty when nothing is, or there is none.
    """

    folder: Path
    safetensors: tuple[str, ...] = ()
    index: Mapping[str, str] | None = None
    missing_shards: tuple[str, ...] = ()
    pickled: tuple[PickledFile, ...] = ()
    rivals: tuple[str, ...] = ()
    index_fault: str = ""

    @property
    def empty(self) -> bool:
        """Whether the folder has no weights at all."""
        return not (self.safetensors or self.pickled or self.missing_shards or self.index_fault)


def find_weights(folder: Path) -> WeightFiles:
    """The weight files of an adapter's folder; no file is opened beyond its first bytes, but for an index.

    `adapter_model.safetensors` comes first, then its shards; without either, the one set of safetensors files that is
    there. Files of the base model (`model*.safetensors`) and what a trainer keeps are no weights of an adapter.

    Raises:
        InputError: The folder cannot be listed.
    """
    names = _listing(folder)
    sets = _sets([name for name in names if name.endswith(".safetensors")])
    indexes = [name for name in names if name.endswith(INDEX_SUFFIX)]
    for name in indexes:
        sets.setdefault(f"{name.removesuffix(INDEX_SUFFIX)} (shards)", [])
    chosen, rivals = _choose(sets)
    pickled = tuple(found for name in names if (found := _pickled(folder, name)))
    if chosen is None:
        return WeightFiles(folder, pickled=pickled, rivals=rivals)
    stem = chosen.removesuffix(" (shards)")
    index: Mapping[str, str] | None = None
    fault = ""
    if stem != chosen and f"{stem}{INDEX_SUFFIX}" in indexes:
        index, fault = _index(folder / f"{stem}{INDEX_SUFFIX}")
    present = sets[chosen]
    wanted = {*(index or {}).values(), *_numbered(present)}
    missing = tuple(sorted(wanted - set(names)))
    return WeightFiles(folder, tuple(sorted(present)), index, missing, pickled, rivals, fault)


def _listing(folder: Path) -> list[str]:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except (OSError, ValueError) as error:
        raise unreadable(folder, error) from error
    if len(names) > _MAX_FILES:
        raise InputError(str(folder), f"holds {len(names):,} entries.", "Give the folder of one adapter.")
    return names


def _sets(names: Sequence[str]) -> dict[str, list[str]]:
    """Files that belong together: one file alone, or the shards of one stem."""
    sets: dict[str, list[str]] = {}
    for name in names:
        stem = name.removesuffix(".safetensors")
        shard = _SHARD.match(stem)
        sets.setdefault(f"{shard['stem']} (shards)" if shard else stem, []).append(name)
    return sets


def _choose(sets: Mapping[str, Sequence[str]]) -> tuple[str | None, tuple[str, ...]]:
    ours = [one for one in sets if one.removesuffix(" (shards)") == _MAIN]
    others = [one for one in sets if one not in ours]
    if ours:
        ours.sort(key=len)
        return ours[0], tuple(ours[1:])
    adapters = [one for one in others if not one.startswith("model")] or others
    if len(adapters) == 1:
        return adapters[0], ()
    return None, tuple(sorted(adapters))


def _numbered(names: Sequence[str]) -> set[str]:
    """Every shard that the numbering of those present promises."""
    promised: set[str] = set()
    for name in names:
        shard = _SHARD.match(name.removesuffix(".safetensors"))
        if shard and int(shard["total"]) <= _MAX_FILES:
            total = shard["total"]
            promised.update(
                f"{shard['stem']}-{number:05}-of-{total}.safetensors" for number in range(1, int(total) + 1)
            )
    return promised


def _index(path: Path) -> tuple[Mapping[str, str] | None, str]:
    try:
        found = parse_object(read_bounded(path, MAX_INDEX_BYTES)).get("weight_map")
    except StrictJsonError as error:
        return None, f"{path.name} {error.message}"
    except InputError as error:
        return None, error.message
    if not isinstance(found, dict):
        return None, f"{path.name} has no weight_map"
    index = cast("dict[str, object]", found)
    for name in index.values():
        if not isinstance(name, str) or not is_plain_name(name):
            return None, f"{path.name} names {shown(str(name))}, which is no file of this folder"
    return cast("dict[str, str]", index), ""


def is_plain_name(name: str) -> bool:
    """Whether a name out of a file can only be an entry of the folder itself."""
    return bool(name) and name not in {".", ".."} and not set(name) & set("/\\:\0")


def _pickled(folder: Path, name: str) -> PickledFile | None:
    path = folder / name
    if path.suffix.lower() not in _PICKLE_SUFFIXES or _TRAINER_STATE.match(name):
        return None
    try:
        if path.is_dir():
            return None
        with open_plain(path) as file:
            head = file.read(_FIRST_BYTES)
    except (InputError, OSError):
        return PickledFile(name, "not read")
    kind = next((word for place, magic, word in _MAGIC if head[place : place + len(magic)] == magic), None)
    return None if kind is None else PickledFile(name, kind)
