"""Looks at the machine, once: GPUs, memory, the folder to write to, versions, and what was given."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gradience_analysis.config_check.machine.devices import gather_devices
from gradience_analysis.config_check.machine.facts import MachineFacts, NameFacts, PathFacts
from gradience_analysis.config_check.machine.folder import gather_folder
from gradience_analysis.config_check.machine.host import host_memory, installed
from gradience_analysis.config_check.machine.tested import TESTED


def gather_machine(
    folder: Path | None = None,
    *,
    look: bool = True,
    paths: Iterable[PathFacts] = (),
    names: Iterable[NameFacts] = (),
) -> MachineFacts:
    """What can be seen of the machine without torch; what cannot be seen is said in the facts, never raised.

    Args:
        folder: The folder that the run is to write to. A file is created, synced and removed in it, or in the nearest
            folder above it that exists; so it must be one that the user has named.
        look: Look at devices, memory, the folder and versions; otherwise only `paths` and `names` are kept.
        paths: What stands at the paths that were given (`paths.path_facts`).
        names: Names that were given (`paths.name_facts`).
    """
    given, named = tuple(paths), tuple(names)
    if not look:
        return MachineFacts(paths=given, names=named)
    devices = gather_devices()
    total, available = host_memory()
    return MachineFacts(
        looked=True,
        devices=devices.found,
        devices_reason=devices.reason,
        memory_bytes=total,
        available_bytes=available,
        folder=None if folder is None else gather_folder(folder),
        libraries=installed(TESTED),
        paths=given,
        names=named,
    )
