"""What the folder of a base model says about itself, from its config.json and safetensors headers alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradience_analysis.adapter_check.facts import BaseFact
from gradience_analysis.adapters import HeaderError
from gradience_analysis.adapters.dtypes import FLOATING
from gradience_analysis.base_weights.checkpoint import read_checkpoint, read_json
from gradience_analysis.errors import InputError

_CACHED = re.compile(r"models--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)\Z")


def read_base(folder: Path) -> BaseFact:
    """The names and tensor shapes of a base model; what cannot be read is missing, with the reason. Never raises."""
    names = _names(folder, read_json(folder / "config.json"))
    try:
        checkpoint = read_checkpoint(folder)
        tensors = checkpoint.tensors
    except HeaderError as error:
        return BaseFact(folder, names, reason=f"a header of the base model cannot be read: {error.message.rstrip('.')}")
    except InputError as error:
        reason = f"the base model has no safetensors weights that can be read: {error.message.rstrip('.')}"
        return BaseFact(folder, names, reason=reason)
    shapes: dict[str, tuple[int, ...]] = {}
    others: set[str] = set()
    for stored in tensors.values():
        # A quantized weight is packed: its dimensions are not those of the layer.
        if stored.entry.dtype in FLOATING and len(stored.entry.shape) == 2:
            shapes[stored.entry.name] = stored.entry.shape
        else:
            others.add(stored.entry.name)
    return BaseFact(folder, _names(folder, checkpoint.config), shapes, frozenset(others))


def _names(folder: Path, config: Mapping[str, Any] | None) -> tuple[str, ...]:
    """What the model is called in its config.json and in the download cache that its path leads through."""
    names: list[str] = []
    name = (config or {}).get("_name_or_path")
    if isinstance(name, str) and name:
        names.append(name)
    for part in folder.absolute().parts:
        cached = _CACHED.match(part)
        if cached:
            names.append(f"{cached['owner']}/{cached['name']}")
    return tuple(dict.fromkeys(names))
