"""Reads one file in a process of its own with a hard limit on its memory, and prints what that took, as JSON."""

from __future__ import annotations

import json
import resource
import sys
from collections import deque
from pathlib import Path

from gradience_analysis.telemetry.explain import explain
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.read import EventReader
from gradience_analysis.telemetry.validate import validate
from gradience_schema import EVENT_TYPES

MIB = 1 << 20
# Far above the promise, so that what breaks it is measured, and what runs away is stopped.
HEADROOM = 512 * MIB


def peak_mib() -> float:
    """The most memory that the process had in RAM so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_use() -> int:
    """Address space of the process, bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def main(how: str, path: Path, warm: Path) -> None:
    """Read `warm` first: what only the first reading loads (libraries, validators) is not what a file costs."""
    validate(warm)
    for event in EVENT_TYPES:
        explain({"event": event})
    before = peak_mib()
    limit = in_use() + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    log = IssueLog()
    if how == "validate":
        report = validate(path)
        counts, lines, size = report.issue_counts, report.lines, report.size
        events, rejected = sum(report.events.values()), report.rejected
    else:
        reader = EventReader(path, log)
        deque(reader, maxlen=0)
        counts, lines, size = log.counts, reader.lines, reader.size
        events, rejected = reader.events, reader.rejected
    codes = {item.code: item.count for item in counts}
    taken = peak_mib() - before
    print(json.dumps({"mib": taken, "codes": codes, "lines": lines, "size": size, "events": events, "lost": rejected}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
