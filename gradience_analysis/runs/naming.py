"""Short names for runs: as little of the path as tells one from the others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

# Names that a tool gives to every log it writes; the folder says which run it is.
_GENERIC: Final = frozenset({"run", "trainer_state", "trainer_log", "metrics", "telemetry", "log", "logging"})
_SUFFIXES: Final = re.compile(r"(?:\.rank\d+)?(?:\.\d+)?\.(?:jsonl|json|csv|txt)(?:\.gz)?$")


def short_names(paths: Mapping[str, str]) -> dict[str, str]:
    """A name for each run, unique among them.

    It is the stem of the run's file, or its folder when the file is called `run.jsonl` or as every log of its tool
    is; with as many folders before it as tell it from runs of the same name. Runs in one file are told apart by
    the first characters of their ids.

    Args:
        paths: Path of the first file of each run, by run id.
    """
    parts = {run_id: _parts(path) for run_id, path in paths.items()}
    names = {run_id: mine[-1] for run_id, mine in parts.items()}
    for depth in range(2, 1 + max(map(len, parts.values()), default=0)):
        counts = Counter(names.values())
        if all(count == 1 for count in counts.values()):
            return names
        names |= {run_id: "/".join(parts[run_id][-depth:]) for run_id, name in names.items() if counts[name] > 1}
    return _told_apart_by_id(names)


def _parts(path: str) -> tuple[str, ...]:
    *folders, file = Path(path).absolute().parts
    stem = _SUFFIXES.sub("", file)
    return tuple(folders) if stem in _GENERIC and len(folders) > 1 else (*folders, stem)


def _told_apart_by_id(names: dict[str, str]) -> dict[str, str]:
    groups: dict[str, list[str]] = {}
    for run_id, name in names.items():
        groups.setdefault(name, []).append(run_id)
    unique: dict[str, str] = {}
    for name, run_ids in groups.items():
        length = next(
            (size for size in range(8, 64) if len({run_id[:size] for run_id in run_ids}) == len(run_ids)), None
        )
        for run_id in run_ids:
            unique[run_id] = name if len(run_ids) == 1 else f"{Path(name).name}#{run_id[:length]}"
    return {run_id: unique[run_id] for run_id in names}
