"""What a command costs as a process of its own; shared by the benchmarks of commands."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Cost:
    """CPU and wall-clock seconds and peak memory of one process."""

    cpu_s: float
    wall_s: float
    peak_mb: float


def measure(command: list[str], repeat: int, bytecode: Path) -> Cost:
    """The cheapest of several runs of a command, after one that compiles what is not compiled."""
    _once(command, bytecode)
    costs = [_once(command, bytecode) for _ in range(repeat)]
    return min(costs, key=lambda cost: cost.cpu_s)


def _once(command: list[str], bytecode: Path) -> Cost:
    paths = os.pathsep.join(str(path) for path in (ROOT, ROOT / "schema", ROOT / "cli"))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONPYCACHEPREFIX": str(bytecode)}
    # As after an installation: the packages are compiled, whatever this shell says about bytecode.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    null = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, null, 1)]
    started = time.monotonic()
    pid = os.posix_spawn(command[0], command, environment, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    wall = time.monotonic() - started
    os.close(null)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"failed: {' '.join(command)}")
    scale = 1024 if sys.platform != "darwin" else 1024 * 1024
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / scale)
