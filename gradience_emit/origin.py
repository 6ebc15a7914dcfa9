"""Which machine and which process write a run: enough to tell later, there, whether the writer still lives."""

from __future__ import annotations

import os
import platform
from typing import Any, Final

from gradience_schema.writer_identity import PROC, boot_id, digest, pid_namespace, process_state

__all__ = ["host", "machine", "process"]

_PROC: Final = PROC


def host(*, allow_hostname: bool = False) -> str | None:
    """The machine's name as `sha256:` and 12 hex digits, enough to tell machines apart; the name itself when allowed.

    None when the machine has no name.
    """
    name = platform.node()
    if not name or allow_hostname:
        return name or None
    return digest(name)


def machine() -> dict[str, Any]:
    """`host` and, on Linux, `boot_id`: the digest of the random id that the kernel draws at each start."""
    return _known(host=host(), boot_id=boot_id(_PROC))


def process() -> dict[str, Any]:
    """`pid` of this process; on Linux also `pid_start` (clock ticks since boot) and `pid_namespace`.

    A number of a process is given out again after its end, and means another process in another container: with the
    two others beside it, it does not.
    """
    return _known(pid=os.getpid(), pid_start=process_state(proc=_PROC)[1], pid_namespace=pid_namespace(_PROC))


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
