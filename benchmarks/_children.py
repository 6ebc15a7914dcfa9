"""Runs one call of a contender in a process of its own; shared by the benchmarks that compare libraries.

The child imports what it needs, makes the call once on something small, and only then takes the time: what is compared
is the work, not the import. Its peak is that of the whole process, the libraries included.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _process import ROOT

# CPU seconds are summed over threads all the same; this keeps threads from waiting for each other.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS", "ARROW_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Outcome:
    """What one call cost, and what the child says of its result.

    Attributes:
        cpu_s: User and system seconds of the call, child processes included.
        wall_s: Seconds on the clock.
        peak_mb: Highest memory of the process, libraries included.
        facts: What the child found in the result.
        error: What stopped the call; empty when nothing did.
    """

    cpu_s: float
    wall_s: float
    peak_mb: float
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    error: str = ""


def run(script: str, *arguments: str) -> Outcome:
    """One call, by a script of this folder that was given `--child`."""
    paths = os.pathsep.join(str(path) for path in (ROOT, ROOT / "schema", ROOT / "cli"))
    command = [sys.executable, script, "--child", *arguments]
    environment = os.environ | _ONE_THREAD | {"PYTHONPATH": paths}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        answer = child.stdout.read() if child.stdout else ""
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"failed with exit code {child.returncode}: {' '.join(command)}")
    scale = 1024 if sys.platform != "darwin" else 1024 * 1024
    said = json.loads(answer.splitlines()[-1])
    return Outcome(peak_mb=usage.ru_maxrss / scale, **said)


def in_turns(
    repeat: int, names: Iterable[str], call: Callable[[str], Outcome], once: Iterable[str] = ()
) -> dict[str, Outcome]:
    """The cheapest call of each contender; they take turns, so that a slow moment of the machine falls on all of them.

    Args:
        repeat: Rounds.
        names: The contenders.
        call: Makes one call of a contender.
        once: Those that run in the first round only, because they take so long.
    """
    best: dict[str, Outcome] = {}
    slow = set(once)
    for turn in range(repeat):
        for name in names:
            if turn and (name in slow or best[name].error):
                continue
            print(f"  {name}, {turn + 1} of {repeat}", file=sys.stderr, flush=True)
            outcome = call(name)
            best[name] = min(best.get(name, outcome), outcome, key=lambda one: one.cpu_s)
    return best


def answer(call: Callable[[], Any], facts: Callable[[Any], Mapping[str, Any]]) -> None:
    """In the child: make the call, and print what it cost and what it gave."""
    cpu, wall = cpu_s(), time.monotonic()
    error, result = "", None
    try:
        result = call()
    except Exception as reason:  # noqa: BLE001 (whatever a library raises is its answer)
        error = f"{type(reason).__name__}: {' '.join(str(reason).split())}"
    costs = {"cpu_s": cpu_s() - cpu, "wall_s": time.monotonic() - wall}
    print(json.dumps({**costs, "error": error, "facts": {} if error else dict(facts(result))}))


def cpu_s() -> float:
    """User and system seconds so far, of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written to a folder."""
    there = os.statvfs(folder)
    return there.f_bavail * there.f_frsize
