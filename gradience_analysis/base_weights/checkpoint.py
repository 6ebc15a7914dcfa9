"""Which files hold the tensors of a base model, and what their headers say. No tensor is read here.

Understood are one safetensors file, shards with or without their index, the sub-folders of a diffusion pipeline, and
the local download cache of the Hugging Face Hub (`models--owner--name/snapshots/<commit>/`, links into `blobs/`). Names
that stand in these files are labels: one that leads out of its folder is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from gradience_analysis.adapters.header import Header, TensorEntry, read_header
from gradience_analysis.adapters.opening import read_bounded, unreadable
from gradience_analysis.adapters.shards import INDEX_SUFFIX, SHARD, SUFFIX, names_in, promised_shards, read_index
from gradience_analysis.adapters.strict_json import StrictJsonError, parse_object, shown
from gradience_analysis.errors import InputError

MAX_CONFIG_BYTES = 16 << 20
_ADAPTER = "adapter_"
# In this order, where a folder holds several: what transformers loads, what diffusers loads.
_USUAL = ("model", "diffusion_pytorch_model")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+\Z")
_CONVERT = (
    "Convert them where the model is trusted, with from_pretrained and save_pretrained of transformers, which writes "
    "model.safetensors."
)


class Stored(NamedTuple):
    """A tensor and the file that holds it."""

    file: Path
    header: Header
    entry: TensorEntry


@dataclass(frozen=True)
class Checkpoint:
    """The weight files of one base model, by their headers.

    Attributes:
        path: The path as it was given.
        folder: The folder that the files lie in.
        headers: The header of each file, in order.
        config: Its config.json; None when there is one that cannot be read strictly, empty when there is none.
        quantize_config: Its quantize_config.json, beside older GPTQ weights; likewise.
    """

    path: Path
    folder: Path
    headers: Mapping[Path, Header]
    config: Mapping[str, Any] | None = field(default_factory=dict[str, Any], repr=False)
    quantize_config: Mapping[str, Any] | None = field(default_factory=dict[str, Any], repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files, in order."""
        return tuple(self.headers)

    @cached_property
    def tensors(self) -> Mapping[str, Stored]:
        """Every tensor by its name.

        Raises:
            InputError: Two files hold a tensor of the same name.
        """
        found: dict[str, Stored] = {}
        for file, header in self.headers.items():
            for entry in header.tensors.values():
                if entry.name in found:
                    both = f"{found[entry.name].file.name} and {file.name}"
                    message = f"has the tensor {shown(entry.name)} in two files: {both}."
                    raise InputError(str(self.folder), message, "Give the file that counts.")
                found[entry.name] = Stored(file, header, entry)
        return found


def read_checkpoint(path: Path) -> Checkpoint:
    """The weight files under a path, with their headers checked.

    Args:
        path: A folder, a safetensors file, an index of shards, or a model's folder in the local download cache.

    Raises:
        InputError: There is no such path; it holds no safetensors weights, several sets of them, or an adapter; shards
            are missing; or a header cannot be believed.
    """
    place = resolve_place(path)
    folder, files = (place.parent, _of_file(place)) if place.is_file() else (place, weight_files(place))
    headers = {file: read_header(file) for file in files}
    return Checkpoint(
        path,
        folder,
        headers,
        config=read_json(folder / "config.json"),
        quantize_config=read_json(folder / "quantize_config.json"),
    )


def read_json(path: Path) -> Mapping[str, Any] | None:
    """The object in a JSON file of at most 16 MiB; empty when there is no file, None when it is not read strictly."""
    try:
        return parse_object(read_bounded(path, MAX_CONFIG_BYTES))
    except (InputError, StrictJsonError):
        return None if os.path.lexists(path) else {}


def resolve_place(path: Path) -> Path:
    """The file or folder that holds the weights: of a model in the local download cache, the snapshot of `main`.

    Raises:
        InputError: There is no such path, or the cache does not say which snapshot counts.
    """
    try:
        if path.is_file():
            return path
        if not path.is_dir():
            raise _absent(path)
        snapshots = path if path.name == "snapshots" else path / "snapshots"
        if not snapshots.is_dir() or any(path.glob(f"*{SUFFIX}")):
            return path
        return _snapshot(snapshots)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def _absent(path: Path) -> InputError:
    if path.exists():
        return InputError(str(path), "is neither a file nor a folder.", "Give the folder of the base model.")
    if _HUB_NAME.match(str(path)):
        message = "is no local path, and nothing is downloaded."
        return InputError(str(path), message, "Give the folder that holds the model's safetensors files.")
    return InputError(str(path), "does not exist.", "Give the folder that holds the base model's safetensors files.")


def _snapshot(snapshots: Path) -> Path:
    """The snapshot that `refs/main` names, else the only one."""
    repository = snapshots.parent
    found = sorted(entry.name for entry in snapshots.iterdir() if entry.is_dir())
    try:
        main = read_bounded(repository / "refs" / "main", 1000).decode("ascii", "replace").strip()
    except InputError:
        main = ""
    if main in found:
        return snapshots / main
    if len(found) == 1 and not main:
        return snapshots / found[0]
    names = ", ".join(shown(name) for name in found[:5])
    if main:
        message = f"has no snapshot {shown(main)}, which refs/main names."
    elif found:
        message = f"holds {len(found):,} snapshots and no refs/main that names one: {names}."
    else:
        message = "holds no snapshot."
    raise InputError(str(repository), message, "Give the folder of one snapshot, or fetch the model again.")


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files in a folder that hold a base model's weights: `model`, else the only set there is.

    Raises:
        InputError: There are none, several sets, or shards are missing.
    """
    names = base_names(folder)
    sets = _sets(names)
    for name in names_in(folder):
        if name.endswith(INDEX_SUFFIX) and not name.startswith(_ADAPTER):
            sets.setdefault(name.removesuffix(INDEX_SUFFIX), [])
    if not sets:
        raise _no_weights(folder)
    chosen = next((stem for stem in _USUAL if stem in sets), next(iter(sets)) if len(sets) == 1 else None)
    if chosen is None:
        listed = ", ".join(shown(stem) for stem in sorted(sets)[:5])
        message = f"holds several sets of weights, and none of them is called model: {listed}."
        raise InputError(str(folder), message, "Give the path of one file.")
    single = f"{chosen}{SUFFIX}"
    if single in sets[chosen]:
        return (folder / single,)
    return _shards(folder, chosen, sets[chosen])


def base_names(folder: Path) -> list[str]:
    """The safetensors files in a folder, without those of an adapter.

    Raises:
        InputError: The folder cannot be listed, or has more than 10,000 entries.
    """
    return [name for name in names_in(folder) if name.endswith(SUFFIX) and not name.startswith(_ADAPTER)]


def _sets(names: Iterable[str]) -> dict[str, list[str]]:
    """Files that belong together by their stem: one alone, shards, or both."""
    sets: dict[str, list[str]] = {}
    for name in names:
        stem = name.removesuffix(SUFFIX)
        shard = SHARD.match(stem)
        sets.setdefault(shard["stem"] if shard else stem, []).append(name)
    return sets


def _shards(folder: Path, stem: str, present: Sequence[str]) -> tuple[Path, ...]:
    index = f"{stem}{INDEX_SUFFIX}"
    wanted = _indexed(folder / index) if (folder / index).exists() else {*present, *promised_shards(present)}
    missing = sorted(name for name in wanted if not (folder / name).exists())
    if missing:
        listed = ", ".join(shown(name) for name in missing[:5])
        message = f"lacks {len(missing):,} of {len(wanted):,} shards: {listed}."
        raise InputError(str(folder), message, "Fetch the whole model; a norm of a part of it says nothing.")
    return tuple(folder / name for name in sorted(wanted))


def _indexed(path: Path) -> set[str]:
    shards = set(read_index(path).values())
    if not shards:
        raise InputError(str(path), "has no weight_map.", "Take the index that was saved with the shards.")
    return shards


def _of_file(path: Path) -> tuple[Path, ...]:
    """The files that a file stands for: itself, or the shards beside an index."""
    if path.name.endswith(INDEX_SUFFIX):
        return _shards(path.parent, path.name.removesuffix(INDEX_SUFFIX), ())
    if path.suffix != SUFFIX:
        message = "is no safetensors file, and no other format of weights is opened."
        raise InputError(str(path), message, _CONVERT)
    if path.name.startswith(_ADAPTER):
        raise InputError(str(path), "is the file of an adapter.", "Give the base model that the adapter was made for.")
    return (path,)


def _no_weights(folder: Path) -> InputError:
    """Why a folder has no weights that are read, by what it has instead."""
    names = names_in(folder)
    if any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) and not name.startswith("training_args") for name in names):
        return InputError(str(folder), "holds weights only as pickles, which run code when they are loaded.", _CONVERT)
    if any(name.startswith(_ADAPTER) for name in names):
        return InputError(str(folder), "holds an adapter and no base model.", "Give the folder of the base model.")
    if any(name.startswith("models--") for name in names):
        message = "is a download cache of several models."
        return InputError(str(folder), message, "Give the folder of one of them, models--owner--name.")
    below = [name for name in names if (folder / name).is_dir() and any((folder / name).glob(f"*{SUFFIX}"))]
    if below:
        listed = ", ".join(shown(name) for name in below[:5])
        return InputError(str(folder), f"holds its weights in folders of its own: {listed}.", "Give one of these.")
    if any(name.endswith(".gguf") for name in names):
        return InputError(str(folder), "holds weights as GGUF, which is not read.", "Give the safetensors model.")
    return InputError(str(folder), "holds no safetensors files.", "Give the folder of the base model.")
