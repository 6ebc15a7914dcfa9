"""What this machine has, and what stands where the run is to write; taken once, before training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One GPU that a run started here would see.

    Attributes:
        index: Its number on this machine.
        name: Its product name.
        total_bytes: Memory it has; None when not known.
        used_bytes: Memory in use now, by whatever runs on it; None when not known.
        free_bytes: Memory that is free now; None when not known.
        compute_capability: Such as 8.0; None when not known.
        driver: Version of the driver; empty when not known.
        holders: Ids of the processes that hold memory of it; those of other containers are not seen.
    """

    index: int
    name: str = ""
    total_bytes: int | None = None
    used_bytes: int | None = None
    free_bytes: int | None = None
    compute_capability: float | None = None
    driver: str = ""
    holders: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file of a run that a live process has locked.

    Attributes:
        path: The file.
        pid: The process that holds it; None when it is not to be seen from here.
    """

    path: str
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """The folder that the run is to write to.

    Attributes:
        path: As it was given.
        probed: The folder that was really looked at: the nearest one that exists.
        write_fault: Why a file could not be created, synced and removed there; empty when it could.
        free_bytes: Space that is free to this user; None when not known.
        file_system: Its type, such as `ext4` or `nfs4`; empty when not known.
        held: Files of runs in it that a live process has locked.
        locks_seen: Whether locks could be looked for.
    """

    path: str
    probed: str = ""
    write_fault: str = ""
    free_bytes: int | None = None
    file_system: str = ""
    held: tuple[HeldFile, ...] = ()
    locks_seen: bool = True


@dataclass(frozen=True, slots=True)
class LibraryFacts:
    """An installed library.

    Attributes:
        name: Its distribution name.
        version: The installed version; None when it is not installed.
    """

    name: str
    version: str | None


@dataclass(frozen=True, slots=True)
class PathFacts:
    """A path that was given where a file (or a folder) is expected.

    Attributes:
        label: What it was given as, such as `--data`.
        path: As it was given.
        kind: `file`, `directory`, `symlink`, `FIFO`, `socket`, `character device`, `block device`, or `missing`.
        wanted: `file` or `directory`.
    """

    label: str
    path: str
    kind: str
    wanted: str = "file"


@dataclass(frozen=True, slots=True)
class NameFacts:
    """A name under which something is to be kept below a root folder.

    Attributes:
        label: What it was given as, such as `--run-name`.
        name: The name.
        root: The folder that it must stay in; empty when there is none yet.
        fault: Why it is not safe; empty when it is.
    """

    label: str
    name: str
    root: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What could be seen of the machine.

    Attributes:
        looked: Whether devices, memory and versions were looked at (`--env`).
        devices: The GPUs a run would see.
        devices_reason: Why there are none; empty when there are.
        memory_bytes: Host memory that a process here may use: the smaller of what is there and the cgroup's limit.
        available_bytes: How much of it is available now; None when not known.
        folder: The folder to write to; None when none was given or it was not looked at.
        libraries: The libraries that a run is made with.
        paths: The paths that were given.
        names: The names that were given.
    """

    looked: bool = False
    devices: tuple[DeviceFacts, ...] = ()
    devices_reason: str = ""
    memory_bytes: int | None = None
    available_bytes: int | None = None
    folder: FolderFacts | None = None
    libraries: tuple[LibraryFacts, ...] = ()
    paths: tuple[PathFacts, ...] = ()
    names: tuple[NameFacts, ...] = ()
