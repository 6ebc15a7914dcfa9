"""Gathers what the files of an adapter say: each is read once, and none of them is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from gradience_analysis.adapter_check.base_reading import read_base
from gradience_analysis.adapter_check.facts import AdapterFacts, DigestFact, FileFault, TensorFact, TensorValues
from gradience_analysis.adapters import (
    AdapterConfig,
    HeaderError,
    SafetensorsFile,
    TensorDtypeError,
    WeightFiles,
    classify,
    find_weights,
    read_adapter_config,
)
from gradience_analysis.adapters.config import CONFIG_NAMES, config_in
from gradience_analysis.adapters.opening import sha256_of
from gradience_analysis.errors import InputError
from gradience_analysis.sources.opening import is_folder

_DIGEST_LENGTH = 64


KnownValues: TypeAlias = Mapping[tuple[str, str], TensorValues]
"""(file, tensor) → what its values show, of tensors that somebody has read already."""


def read_adapter(
    folder: Path,
    *,
    base: Path | None = None,
    recorded: Mapping[str, str] | None = None,
    config: Path | None = None,
    weights: Path | None = None,
    converted: Path | None = None,
    known: KnownValues | None = None,
) -> AdapterFacts:
    """The facts of one adapter.

    A folder that holds neither a config nor weights, but one folder that does, stands for that one.

    Args:
        folder: The adapter's folder.
        base: Folder of the base model that it is to be served with.
        recorded: SHA-256 by file name, as a registry has it.
        config: File to take in place of the folder's adapter_config.json.
        weights: Safetensors file, or a folder of them, to take in place of the folder's.
        converted: The same, of what was taken out of the folder's pickled weights: these are still told.
        known: Values that need not be read again.

    Raises:
        InputError: There is no such folder, it cannot be listed, or several folders in it hold an adapter.
    """
    folder, files = _locate(folder)
    if converted is not None:
        files = replace(WeightFiles(converted.parent, (converted.name,)), pickled=files.pickled)
    elif weights is not None:
        files = find_weights(weights) if is_folder(weights) else WeightFiles(weights.parent, (weights.name,))
    settings, fault = _config(config or config_in(folder))
    tensors, faults = _tensors(files, known or {})
    places = {(fact.key.name, fact.file) for fact in tensors}
    names = Counter(name for name, _ in places)
    absent = [item for item in (files.index or {}).items() if item[1] not in files.missing_shards]
    sound = {*files.safetensors} - {one.file for one in faults}
    return AdapterFacts(
        folder=folder,
        files=files,
        config=settings,
        config_fault=fault,
        tensors=tuple(tensors),
        faults=tuple(faults),
        repeated=tuple(sorted(name for name, count in names.items() if count > 1)),
        absent=tuple(sorted(name for name, file in absent if file in sound and (name, file) not in places)),
        digests=None if recorded is None else tuple(_digest(folder, *item) for item in sorted(recorded.items())),
        base=None if base is None else read_base(base),
    )


def _locate(folder: Path) -> tuple[Path, WeightFiles]:
    files = find_weights(folder)
    if not files.empty or files.rivals or config_in(folder).exists():
        return folder, files
    below = sorted({path.parent for name in CONFIG_NAMES for path in folder.glob(f"*/{name}")})
    if len(below) > 1:
        names = ", ".join(path.name for path in below[:10])
        raise InputError(str(folder), f"holds several adapters: {names}.", "Give the folder of one of them.")
    return (below[0], find_weights(below[0])) if below else (folder, files)


def _config(path: Path) -> tuple[AdapterConfig | None, str]:
    try:
        return read_adapter_config(path), ""
    except InputError as error:
        return None, _without_path(error, path)


def _tensors(files: WeightFiles, known: KnownValues) -> tuple[list[TensorFact], list[FileFault]]:
    tensors: list[TensorFact] = []
    faults: list[FileFault] = []
    for name in files.safetensors:
        path = files.folder / name
        try:
            with SafetensorsFile(path) as file:
                tensors += [
                    TensorFact(
                        classify(entry.name),
                        name,
                        entry.dtype,
                        entry.shape,
                        known.get((name, entry.name)) or _values(file, entry.name),
                    )
                    for entry in file.header.tensors.values()
                ]
        except HeaderError as error:
            faults.append(FileFault(name, error.code, _without_path(error, path)))
        except InputError as error:
            faults.append(FileFault(name, "unreadable", _without_path(error, path)))
    return tensors, faults


def _values(file: SafetensorsFile, name: str) -> TensorValues | None:
    try:
        found = file.extremes(name)
    except TensorDtypeError:
        return None
    zero = found.largest == 0 and not found.nonfinite and found.elements > 0
    return TensorValues(found.elements, zero, found.nonfinite, found.first_nonfinite)


def _digest(folder: Path, name: str, recorded: str) -> DigestFact:
    wanted = recorded.strip().lower().removeprefix("sha256:")
    path = folder / name
    # A record is a label: it may not lead out of the folder.
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        return DigestFact(name, wanted, None, "is not a name inside the folder")
    if len(wanted) != _DIGEST_LENGTH or set(wanted) - set("0123456789abcdef"):
        return DigestFact(name, wanted, None, "has no SHA-256 on record")
    try:
        return DigestFact(name, wanted, sha256_of(path))
    except InputError as error:
        return DigestFact(name, wanted, None, _without_path(error, path))


def _without_path(error: InputError, path: Path) -> str:
    """The sentence of an error without the path it starts with, and without its full stop."""
    return error.message.removeprefix(f"{path}: ").rstrip(".")
