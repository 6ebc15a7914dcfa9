"""Builds adapter files by hand, byte for byte: nothing here comes from the parser under test."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PREFIX = "base_model.model.model.layers"
Tensor = tuple[str, Sequence[int], bytes]
"""Number format, shape and bytes."""


def floats(shape: Sequence[int], values: Sequence[float] | float = 0.5) -> Tensor:
    """An F32 tensor: the given values, or one value throughout."""
    count = 1
    for size in shape:
        count *= size
    numbers = [values] * count if isinstance(values, int | float) else list(values)
    return ("F32", shape, struct.pack(f"<{count}f", *numbers))


def layout(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], bytes]:
    """The header's entries and the data of these tensors, one after the other."""
    entries: dict[str, Any] = {}
    data = b""
    for name, (dtype, shape, raw) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    return entries, data


def assemble(header: bytes, data: bytes, length: int | None = None) -> bytes:
    """A whole file from the text of its header and its data."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A sound file with these tensors."""
    entries, data = layout(tensors)
    if metadata is not None:
        entries = {"__metadata__": dict(metadata), **entries}
    return assemble(json.dumps(entries).encode(), data)


def linear(
    layers: int = 2, r: int = 4, width: int = 8, module: str = "self_attn.q_proj", b: float = 0.5
) -> dict[str, Tensor]:
    """Both factors of one module in each layer."""
    found: dict[str, Tensor] = {}
    for layer in range(layers):
        found[f"{PREFIX}.{layer}.{module}.lora_A.weight"] = floats((r, width))
        found[f"{PREFIX}.{layer}.{module}.lora_B.weight"] = floats((width, r), b)
    return found


def config(**changes: Any) -> dict[str, Any]:
    """An adapter_config.json for `linear`."""
    usual = {
        "peft_type": "LORA",
        "base_model_name_or_path": "owner/tiny",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj"],
        "rank_pattern": {},
        "alpha_pattern": {},
    }
    return {**usual, **changes}


def adapter(folder: Path, tensors: Mapping[str, Tensor] | None = None, **changes: Any) -> Path:
    """A folder as save_pretrained writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config(**changes)))
    (folder / "adapter_model.safetensors").write_bytes(safetensors(linear() if tensors is None else tensors))
    return folder


def base(folder: Path, layers: int = 2, width: int = 8, name: str = "owner/tiny", prefix: str = "model.") -> Path:
    """The folder of a base model that `linear` fits."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"_name_or_path": name, "model_type": "llama"}))
    weights = {f"{prefix}layers.{n}.self_attn.q_proj.weight": floats((width, width)) for n in range(layers)}
    (folder / "model.safetensors").write_bytes(safetensors(weights))
    return folder
