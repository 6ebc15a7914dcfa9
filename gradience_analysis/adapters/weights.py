"""Which files of an adapter's folder hold its weights; names and first bytes only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradience_analysis.adapters.opening import open_plain
from gradience_analysis.adapters.shards import INDEX_SUFFIX, SHARD, SUFFIX, names_in, promised_shards, read_index
from gradience_analysis.errors import InputError

_MAIN = "adapter_model"
_PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
# What a trainer keeps beside the weights; none of it is loaded with them.
_TRAINER_STATE = re.compile(r"(training_args|optimizer|scheduler|scaler|sampler|rng_state|random_states)[\w.-]*\Z")
_FIRST_BYTES = 300
_MAGIC = ((0, b"PK\x03\x04", "zip archive"), (0, b"\x80", "pickle"), (257, b"ustar", "tar archive"))


@dataclass(frozen=True, slots=True)
class PickledFile:
    """A file that runs code when it is loaded as weights.

    Attributes:
        name: Its name in the folder.
        kind: What its first bytes say: `zip archive`, `pickle`, `tar archive`; `unknown format` where a file has the
            name of weights and says none of these; `not read` for a file that cannot be.
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
    names = names_in(folder)
    sets = _sets([name for name in names if name.endswith(SUFFIX)])
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
    wanted = {*(index or {}).values(), *promised_shards(present)}
    missing = tuple(sorted(wanted - set(names)))
    return WeightFiles(folder, tuple(sorted(present)), index, missing, pickled, rivals, fault)


def _sets(names: Sequence[str]) -> dict[str, list[str]]:
    """Files that belong together: one file alone, or the shards of one stem."""
    sets: dict[str, list[str]] = {}
    for name in names:
        stem = name.removesuffix(SUFFIX)
        shard = SHARD.match(stem)
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


def _index(path: Path) -> tuple[Mapping[str, str] | None, str]:
    """What an index says, and what is wrong with it in words that follow the folder's name."""
    try:
        return read_index(path), ""
    except InputError as error:
        return None, f"{path.name} {error.message.removeprefix(f'{path}: ').rstrip('.')}"


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
    if kind is None and path.stem == _MAIN and head:
        kind = "unknown format"  # the oldest protocols of pickle begin with anything
    return None if kind is None else PickledFile(name, kind)
