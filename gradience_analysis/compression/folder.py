"""Writing a folder as a whole: made aside, next to its place, and given its name when everything in it is proven."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from gradience_analysis.errors import InputError

_REMEDY = "Give a new name, or an empty folder."


def refuse_place(source: Path, out: Path) -> None:
    """Refuse a place that would touch the original, or anything else that is there.

    Raises:
        InputError: It is the original, lies within it, holds something, or is no folder.
    """
    try:
        if out.resolve().is_relative_to(source.resolve()):
            raise InputError(str(out), "is the adapter itself, or lies in its folder.", "Give a place outside of it.")
        if os.path.lexists(out) and (out.is_symlink() or not out.is_dir() or any(out.iterdir())):
            raise InputError(str(out), "exists already.", _REMEDY)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unusable(out, error) from error


@contextmanager
def new_folder(out: Path) -> Generator[Path]:
    """A folder to fill; it takes the name `out` at the end of the block, and is removed when the block raises.

    Raises:
        InputError: It cannot be made, or meanwhile something else has that name.
    """
    out = out.absolute()
    aside = out.with_name(f".gradience-{secrets.token_hex(8)}.new")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir()
    except (OSError, ValueError) as error:
        raise _unusable(out, error) from error
    try:
        yield aside
        try:
            _publish(aside, out)
        except OSError as error:
            raise _unusable(out, error) from error
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a small file and bring it to the disk.

    Raises:
        InputError: It cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unusable(path, error) from error


def _publish(aside: Path, out: Path) -> None:
    _sync(aside)
    if os.path.lexists(out):
        # Only an empty folder can be taken away so; whatever has come there meanwhile stays.
        out.rmdir()
    aside.rename(out)
    _sync(out.parent)


def _sync(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError:
        return  # some file systems cannot, and lose nothing but time
    finally:
        os.close(descriptor)


def _unusable(path: Path, error: OSError | ValueError | RuntimeError) -> InputError:
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return InputError(str(path), f"cannot be written: {reason}.", "Give a place with room that can be written.")
