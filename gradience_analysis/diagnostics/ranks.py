"""Ranks: whether every process of a distributed run wrote its telemetry.

By default only rank 0 writes, and nothing is said. Where ranks write files of their own (`run.rank1.jsonl`, or
`meta.rank` or `meta.rank_telemetry` in a run_start), their number is held against `training.world_size`: a difference
either way is a finding (P07). Of a resumed run the ranks of the last segment count, as far as the segments are
numbered. A rank that never came to its first record looks the same as one whose file was not copied here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.model import Finding, Measurement, Place, Run, Segment, plural
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {"ranks_missing": "There are not as many ranks in the telemetry as the run has."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "ranks"
_SHOWN = 16


def measure(run: Run) -> tuple[Measurement, ...]:
    """Number of ranks that wrote the last segment, with the number there should be."""
    own = run.segments[-1]
    segments = (*run.segments, *run.other_ranks)
    if not any(segment.rank or {"rank", "rank_telemetry"} & segment.meta.keys() for segment in segments):
        reason = "only rank 0 wrote. Set rank_telemetry=True to see every rank."
        return (Measurement(NAME, None, "ranks", reason=reason),)
    world_size = None if run.config is None else run.config.training.world_size
    if world_size is None:
        reason = "the number of ranks is not known. Log training.world_size."
        return (Measurement(NAME, None, "ranks", reason=reason),)
    newest = max(_number(segment) for segment in segments)
    present = sorted({segment.rank for segment in segments if _number(segment) == newest})
    # Never more numbers than a person reads: the world size is what the file says.
    absent = [rank for rank in range(min(world_size, _SHOWN + len(present))) if rank not in set(present)]
    details = {
        "world_size": world_size,
        "segment": newest,
        "present": present[:_SHOWN],
        "missing": absent[:_SHOWN] if len(present) < world_size else [],
    }
    places = (Place(None, own.path),)
    return (Measurement(NAME, len(present), "ranks", "files of the ranks", details=details, places=places),)


def _number(segment: Segment) -> int:
    number = segment.meta.get("segment")
    return number if isinstance(number, int) else segment.index


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """A warning when the ranks that wrote are not as many as the run has."""
    (ranks,) = measurements
    if ranks.value is None or ranks.value == ranks.details["world_size"]:
        return []
    expected, missing = ranks.details["world_size"], ranks.details["missing"]
    named = f" (not rank {', '.join(map(str, missing))})" if missing else ""
    return [
        Finding(
            code="ranks_missing",
            rule="P07",
            severity=Severity.WARNING,
            message=f"Telemetry is there of {plural(int(ranks.value), 'rank')} out of {expected}{named}.",
            evidence=dict(ranks.details),
            advice="Look whether the missing ranks died, and whether their files were all copied here.",
            confidence=0.8,
            basis="files with a rank in their name, against training.world_size",
            caveat="ranks on other hosts may have written to disks of their own",
            places=ranks.places,
        )
    ]
