"""Names and shapes of a model's tensors, from the headers of its safetensors files; no weight is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, cast

from gradience_analysis.adapters.header import read_header
from gradience_analysis.config_check.base_model.documents import read_object
from gradience_analysis.errors import InputError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_MOST_SHARDS = 1000


class Weights(NamedTuple):
    """What the headers say.

    Attributes:
        shapes: Tensor name to shape.
        size: Bytes of all tensors.
        fault: Why they could not be read; empty when they could.
    """

    shapes: dict[str, tuple[int, ...]]
    size: int
    fault: str = ""


def gather_weights(folder: Path) -> Weights:
    """The tensors of the model in a folder, whole or in shards."""
    try:
        files = _files(folder)
        if not files:
            return Weights({}, 0, _why_none(folder))
        return _read(files)
    except InputError as error:
        return Weights({}, 0, str(error))


def _files(folder: Path) -> list[Path]:
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    if not (folder / INDEX).exists():
        return []
    index = read_object(folder / INDEX)
    entries: Any = index.get("weight_map")
    names = set(cast("dict[str, Any]", entries).values()) if isinstance(entries, dict) else set[Any]()
    plain = {
        name for name in names if isinstance(name, str) and name not in {"", ".", ".."} and Path(name).name == name
    }
    if not plain or len(plain) != len(names) or len(plain) > _MOST_SHARDS:
        raise InputError(str(folder / INDEX), "does not name files beside it as its shards.")
    return [folder / name for name in sorted(plain)]


def _why_none(folder: Path) -> str:
    if any(folder.glob("pytorch_model*.bin")):
        return "The weights are a pickle, which is never opened; only safetensors headers are read."
    return f"There is neither {SINGLE} nor {INDEX} beside config.json."


def _read(files: list[Path]) -> Weights:
    shapes: dict[str, tuple[int, ...]] = {}
    size = 0
    for file in files:
        for name, entry in read_header(file).tensors.items():
            shapes[name] = entry.shape
            size += entry.end - entry.begin
    return Weights(shapes, size)
