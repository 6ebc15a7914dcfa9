"""Pickled weights to a safetensors file, through a process of its own; what comes back is checked like any other."""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gradience_analysis.adapters.header import HeaderError, read_header
from gradience_analysis.adapters.opening import open_plain, unreadable
from gradience_analysis.adapters.writing import put_in_place
from gradience_analysis.errors import InputError
from gradience_analysis.unpickling.isolation import run_isolated
from gradience_analysis.unpickling.wording import failure

MEMORY_BYTES: Final = 8 << 30
"""Memory that unpickling may take, beyond what torch takes by itself: adapters of 70B models are below 4 GB."""
SECONDS: Final = 300.0
"""Time that unpickling may take, on the clock, once torch is loaded."""


@dataclass(frozen=True, slots=True)
class ConvertedWeights:
    """What was made of a pickled file.

    Attributes:
        source: The pickled file.
        path: The safetensors file.
        tensors: Number of tensors in it.
        size: Bytes of their elements.
        torch_version: The torch that read the pickle.
    """

    source: Path
    path: Path
    tensors: int
    size: int
    torch_version: str


def convert_pickled(
    path: Path, out: Path, *, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS
) -> ConvertedWeights:
    """Convert weights that `torch.save` wrote (`.bin`, `.pt`) to safetensors, without unpickling in this process.

    Another process reads the file by `torch.load(weights_only=True)`, within limits on memory, time and files, and is
    ended when it does anything else. What it writes is checked here before it gets its name. Taken is one dictionary
    of tensors by name, not one inside another; tensors that share memory are written apart. The values are not looked
    at, and nothing proves them harmless as weights.

    Args:
        path: The pickled file; its name says nothing, a `.bin` is as good as a `.pt`.
        out: The file to make, in a folder that exists; a file of that name is never replaced.
        memory_bytes: Memory that it may take, beyond what torch takes by itself; also the most that the file, and its
            tensors, may have.
        seconds: Time that it may take, on the clock, once torch is loaded.

    Raises:
        InputError: The file is none of this kind, is refused, or takes too much; torch is missing; `out` is there
            already or cannot be written.
    """
    _check(path, out, memory_bytes)
    try:
        with tempfile.TemporaryDirectory(prefix=".gradience-", dir=out.parent, ignore_cleanup_errors=True) as folder:
            made = Path(folder).resolve() / "weights.safetensors"
            outcome = run_isolated(path, made, memory_bytes=memory_bytes, seconds=seconds)
            if outcome.name != "done":
                raise failure(path, outcome, memory_bytes=memory_bytes, seconds=seconds)
            tensors, size = _checked(path, made)
            put_in_place(made, out)
    except FileExistsError:
        raise InputError(str(out), "exists already.", "Give another name, or remove it first.") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(str(out), f"cannot be written: {reason}.", "Give a place that can be written.") from error
    return ConvertedWeights(path, out, tensors, size, outcome.text("torch"))


def _check(path: Path, out: Path, memory_bytes: int) -> None:
    """Refuse what can be refused without a process."""
    if os.name != "posix":  # pragma: no cover - not on every system
        raise InputError(
            str(path), "can only be unpickled under Linux or macOS, which can limit a process.", "Convert it there."
        )
    if os.path.lexists(out):
        raise InputError(str(out), "exists already.", "Give another name, or remove it first.")
    with open_plain(path) as file:
        try:
            size = os.fstat(file.fileno()).st_size
        except OSError as error:
            raise unreadable(path, error) from error
    if size > memory_bytes:
        message = f"has {size:,} bytes; a pickle of at most {memory_bytes:,} is opened."
        raise InputError(str(path), message, "Ask for a safetensors copy.")


def _checked(path: Path, made: Path) -> tuple[int, int]:
    """Number and bytes of the tensors in what the other process made."""
    try:
        # Not a link to something else: what is taken over is what was written.
        if not stat.S_ISREG(made.lstat().st_mode):
            raise FileNotFoundError
        header = read_header(made)
    except (HeaderError, OSError) as error:
        raise InputError(str(path), "was not converted: what came back is no sound safetensors file.") from error
    return len(header.tensors), header.file_size - header.data_start
