"""A foreign log that is one JSON document: read whole, within a cap."""

from __future__ import annotations

from pathlib import Path

from gradience_analysis.errors import InputError
from gradience_analysis.sources.decode import Decoded, UndecodableError, decode
from gradience_analysis.sources.lines import BOM
from gradience_analysis.sources.opening import open_regular, read_fault, refuse_container

MAX_DOCUMENT_BYTES = 256 << 20
"""A log row of 200 bytes for each of a million steps fits; what is larger is no log, or not worth the memory."""


def read_document(path: Path, *, limit: int = MAX_DOCUMENT_BYTES) -> Decoded:
    """The JSON value of a file, with bare NaN and Infinity read as floats.

    Args:
        path: The file.
        limit: Most bytes that are read, after decompression.

    Raises:
        InputError: The path cannot be read, holds more than the limit, or holds no JSON value.
    """
    with open_regular(path) as file:
        data = file.read(limit + 1)
        fault = read_fault(file)
    if fault is not None:
        raise InputError(str(path), f"cannot be read whole: {fault}.", "Compress the file again.")
    if len(data) > limit:
        what = f"holds more than {limit >> 20:,} MiB, which is more than a training log that is one document can be."
        raise InputError(str(path), what, "Log less often, or import the checkpoint's own copy.")
    if not data.strip():
        raise InputError(str(path), "is empty.")
    refuse_container(data, path)
    try:
        return decode(data.removeprefix(BOM))
    except UndecodableError as error:
        raise InputError(str(path), error.message.replace(" of the line.", " of the file.")) from error
