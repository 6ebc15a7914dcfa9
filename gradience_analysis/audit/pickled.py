"""Pickled weights of an adapter, converted for the time of an audit, when that was asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from gradience_analysis.adapters import find_weights
from gradience_analysis.adapters.header import HeaderError, read_header
from gradience_analysis.errors import InputError
from gradience_analysis.sources.opening import is_folder


@contextmanager
def converted_weights(
    folder: Path, weights: Path | None, adapter: str | None, *, allowed: bool
) -> Generator[Path | None]:
    """A safetensors file with the tensors of pickled weights; None when nothing is pickled, or it is not allowed.

    Weights that stand in the folder as safetensors, too, are read from there.

    Args:
        folder: The adapter's folder.
        weights: The file of weights that was given; None for the folder's.
        adapter: Which adapter, where the folder holds several.
        allowed: Whether pickled weights may be converted.

    Raises:
        InputError: The conversion fails; the sentence says why.
    """
    pickled = _pickled(folder, weights, adapter) if allowed else None
    if pickled is None:
        yield None
        return
    # Not needed by anybody who has safetensors, and it starts processes.
    from gradience_analysis.unpickling import convert_pickled

    with tempfile.TemporaryDirectory(prefix="gradience-") as place:
        yield convert_pickled(pickled, Path(place) / "adapter_model.safetensors").path


def _pickled(folder: Path, weights: Path | None, adapter: str | None) -> Path | None:
    if weights is not None and not is_folder(weights):
        return None if _is_safetensors(weights) else weights
    below = folder / adapter if adapter else folder
    folder = weights or (below if is_folder(below) else folder)
    files = find_weights(folder)
    if files.safetensors or not files.pickled:
        return None
    names = sorted((one.name for one in files.pickled), key=lambda name: (not name.startswith("adapter_model"), name))
    return folder / names[0]


def _is_safetensors(path: Path) -> bool:
    """Whether a file is one by its header; one that is broken is none of the two, and told as what it looks like."""
    try:
        read_header(path)
    except HeaderError:
        return path.suffix == ".safetensors"
    except InputError:
        return True
    return True
