"""What the folder of a base model says about itself, from its config.json and safetensors headers alone."""

from __future__ import annotations

import re
from pathlib import Path

from gradience_analysis.adapter_check.facts import BaseFact
from gradience_analysis.adapters import read_header
from gradience_analysis.adapters.dtypes import FLOATING
from gradience_analysis.adapters.opening import read_bounded
from gradience_analysis.adapters.strict_json import StrictJsonError, parse_object
from gradience_analysis.errors import InputError

_MAX_CONFIG_BYTES = 16 << 20
_MAX_FILES = 1000
_CACHED = re.compile(r"models--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)\Z")


def read_base(folder: Path) -> BaseFact:
    """The names and tensor shapes of a base model; what cannot be read is missing, with the reason. Never raises."""
    names = _names(folder)
    try:
        files = sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("adapter_"))
    except OSError as error:
        return BaseFact(folder, names, reason=f"the base model's folder cannot be listed: {error.strerror}")
    if not files or len(files) > _MAX_FILES:
        return BaseFact(folder, names, reason="the base model's folder holds no safetensors files")
    shapes: dict[str, tuple[int, ...]] = {}
    others: set[str] = set()
    for path in files:
        try:
            header = read_header(path)
        except InputError as error:
            return BaseFact(folder, names, reason=f"a header of the base model cannot be read: {error.message}")
        for entry in header.tensors.values():
            # A quantized weight is packed: its dimensions are not those of the layer.
            if entry.dtype in FLOATING and len(entry.shape) == 2:
                shapes[entry.name] = entry.shape
            else:
                others.add(entry.name)
    return BaseFact(folder, names, shapes, frozenset(others))


def _names(folder: Path) -> tuple[str, ...]:
    """What the model is called in its config.json and in the download cache that its path leads through."""
    names: list[str] = []
    try:
        config = parse_object(read_bounded(folder / "config.json", _MAX_CONFIG_BYTES))
    except (InputError, StrictJsonError):
        config = {}
    name = config.get("_name_or_path")
    if isinstance(name, str) and name:
        names.append(name)
    for part in folder.absolute().parts:
        cached = _CACHED.match(part)
        if cached:
            names.append(f"{cached['owner']}/{cached['name']}")
    return tuple(dict.fromkeys(names))
