"""Weights that stand in several files: which shards belong together, and which of them there must be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

from gradience_analysis.adapters.opening import read_bounded, unreadable
from gradience_analysis.adapters.strict_json import StrictJsonError, parse_object, shown
from gradience_analysis.errors import InputError

SUFFIX = ".safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
MAX_INDEX_BYTES = 16 << 20
MAX_FILES = 10_000
SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5,6})-of-(?P<total>\d{5,6})\Z")
_REMEDY = "Take the index that was saved with the shards."


def names_in(folder: Path) -> list[str]:
    """The names of a folder's entries, sorted.

    Raises:
        InputError: It cannot be listed, or has more than 10,000 entries.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except FileNotFoundError:
        raise InputError(str(folder), "does not exist.", "Check the path.") from None
    except NotADirectoryError:
        raise InputError(str(folder), "is a file where a folder is needed.", "Give the folder that holds it.") from None
    except (OSError, ValueError) as error:
        raise unreadable(folder, error) from error
    if len(names) > MAX_FILES:
        raise InputError(str(folder), f"holds {len(names):,} entries.", "Give the folder of one model or adapter.")
    return names


def read_index(path: Path) -> Mapping[str, str]:
    """Tensor → shard, as an index says.

    Raises:
        InputError: It cannot be read, has no weight_map, or names something else than a safetensors file beside it.
    """
    try:
        found = parse_object(read_bounded(path, MAX_INDEX_BYTES)).get("weight_map")
    except StrictJsonError as error:
        raise InputError(str(path), f"{error.message}.", _REMEDY) from error
    if not isinstance(found, dict):
        raise InputError(str(path), "has no weight_map.", _REMEDY)
    for name in cast("dict[str, object]", found).values():
        if not isinstance(name, str) or not is_plain_name(name) or not name.endswith(SUFFIX):
            raise InputError(str(path), f"names {shown(str(name))}, which is no safetensors file of this folder.")
    return cast("dict[str, str]", found)


def is_plain_name(name: str) -> bool:
    """Whether a name out of a file can only be an entry of the folder itself."""
    return bool(name) and name not in {".", ".."} and not set(name) & set("/\\:\0")


def promised_shards(names: Iterable[str]) -> set[str]:
    """Every shard that the numbering of those present promises; files without a number promise nothing."""
    promised: set[str] = set()
    for name in names:
        shard = SHARD.match(name.removesuffix(SUFFIX))
        if shard and int(shard["total"]) <= MAX_FILES:
            stem, width, total = shard["stem"], len(shard["number"]), shard["total"]
            promised.update(f"{stem}-{number:0{width}}-of-{total}{SUFFIX}" for number in range(1, int(total) + 1))
    return promised
