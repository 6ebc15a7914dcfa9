"""Base models written by hand for these tests: nothing here comes from the code under test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradience_analysis.adapters.factors import Layout, LoraModule, TensorPlace
from tests.analysis.adapters.files import Tensor, safetensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "int32": "I32", "int8": "I8", "uint8": "U8"}
_NOWHERE = TensorPlace("", "", "F32", ())


def stored(values: NDArray[Any]) -> Tensor:
    """An array as a tensor of the same format."""
    return (_DTYPES[values.dtype.name], values.shape, np.ascontiguousarray(values).tobytes())


def bfloat16(values: NDArray[Any]) -> tuple[Tensor, NDArray[np.float32]]:
    """Numbers cut to bfloat16: the tensor, and the values that it then holds."""
    upper = np.ascontiguousarray(values, dtype="<f4").view("<u2")[..., 1::2]
    kept = np.zeros((*upper.shape, 2), dtype="<u2")
    kept[..., 1] = upper
    return ("BF16", upper.shape, np.ascontiguousarray(upper).tobytes()), kept.view("<f4")[..., 0]


def model(folder: Path, tensors: Mapping[str, Tensor], **config: Any) -> Path:
    """A base model of one file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "tiny", **config}))
    (folder / "model.safetensors").write_bytes(safetensors(tensors))
    return folder


def sharded(
    folder: Path, shards: list[Mapping[str, Tensor]], stem: str = "model", *, index: bool = True, width: int = 5
) -> Path:
    """The same in several files."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{stem}-{n:0{width}}-of-{len(shards):0{width}}.safetensors" for n in range(1, len(shards) + 1)]
    for name, tensors in zip(names, shards, strict=True):
        (folder / name).write_bytes(safetensors(tensors))
    if index:
        weight_map = {key: name for name, tensors in zip(names, shards, strict=True) for key in tensors}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def module(name: str, shape: tuple[int, int], **changes: Any) -> LoraModule:
    """A module of an adapter, of which only name and shape matter here."""
    usual: dict[str, Any] = {
        "adapter": "",
        "layout": Layout.LINEAR,
        "a": _NOWHERE,
        "b": _NOWHERE,
        "e": None,
        "magnitude": None,
        "r": 4,
        "alpha": 8.0,
        "scaling": 2.0,
        "scaling_reason": "",
        "params": 4 * sum(shape),
    }
    return LoraModule(name=name, shape=shape, **{**usual, **changes})


def expert(name: str, number: int, shape: tuple[int, int], *parameters: str) -> LoraModule:
    """One expert of a parameter that is targeted itself."""
    return module(f"{name}[{number}]", shape, layout=Layout.EXPERTS, expert=number, experts=8, parameters=parameters)


def random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def whole(rows: Any) -> NDArray[Any]:
    """All rows of a streamed matrix."""
    found = np.concatenate([chunk.copy() for chunk in rows.chunks()])
    rows.close()
    assert found.shape == rows.shape
    return found
