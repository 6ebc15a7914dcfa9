"""Run status: whether training ended, and how; whether a run without an end is silent, or its process gone.

A run ends with `run_end`, whose status is `ok`, `aborted` or `error`; that of the last segment counts. A file without
it is written still, or its writer was stopped from outside. Two things tell:

- **The process** (`writer`). `run_start.meta` names the machine, its boot, and the process with its start time. Read
  on the same machine, the file of a process that is gone is a crash (P05), and that of one that lives is a run that
  goes on. Read elsewhere, or from another container, nothing can be told, and nothing is said.
- **The silence** (`silence`, seconds): from the last record of any rank to the time of reading. It is held against
  the largest of ten times the median gap between records, twice a pause that the run has made before, and ten minutes
  (P04). The gaps are those between `train_step` records of the last segment, or between all of its records when there
  are fewer than four of those. With fewer than three gaps the run has no pace yet, and an hour is the limit.

What ends a run hides the rest: a crash is not called silent as well. Where it may be wrong: one evaluation that takes
far longer than any pause before it, the clocks of two machines that differ, and a writer that appended to the file of
another one without a `run_start` of its own. Logs of other tools are not held against the clock.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise

from gradience_analysis.model import Event, Finding, Measurement, Run
from gradience_analysis.policy import Policy
from gradience_analysis.series.robust import median
from gradience_schema import RunStatus, Severity

CODES: Mapping[str, str] = {
    "run_error": "Training ended with an error.",
    "run_aborted": "Training was stopped early.",
    "no_run_end": "The telemetry has no end: the run goes on, or it was killed.",
    "run_crashed": "The run has no end, and its process is gone.",
    "run_silent": "The run has no end, and has written nothing for much longer than before.",
}
COVERS: Mapping[str, frozenset[str]] = {
    "run_crashed": frozenset({"run_silent", "no_run_end"}),
    "run_silent": frozenset({"no_run_end"}),
}
NAME = "run_status"
_MIN_GAPS = 3
_MEDIAN_OF = 500


def measure(run: Run) -> tuple[Measurement, ...]:
    """Status of the last run_end; without one, seconds since the last record, and whether its process lives."""
    return (_status(run),) if run.status is not None else (_status(run), _silence(run), _writer(run))


def _status(run: Run) -> Measurement:
    details = {"last_step": run.last_step, "reason": run.reason, "segments": len(run.segments)}
    last = run.segments[-1]
    places = (last.place(last.end or last.events[-1]),)
    if run.status is None:
        reason = "the last segment has no run_end: the run goes on, or it was killed."
        return Measurement(NAME, None, "status", reason=reason, details=details, places=places)
    source = "run_end" if len(run.segments) == 1 else "run_end of the last segment"
    return Measurement(NAME, str(run.status), "status", source, details=details, places=places)


def _silence(run: Run) -> Measurement:
    if run.read_at is None:
        return Measurement("silence", None, "s", reason="ts is not the time of the clock. Log Unix seconds.")
    segment, last = max(
        ((segment, event) for segment in (*run.segments, *run.other_ranks) for event in segment.events[-1:]),
        key=lambda pair: pair[1].ts,
    )
    typical, pause = _pace(run.segments[-1].events)
    details = {
        "last_record": _utc(last.ts),
        "last_step": run.last_step,
        "typical_gap_s": typical,
        "longest_repeated_gap_s": pause,
    }
    seconds = max(0.0, run.read_at - last.ts)
    source = "time of reading - ts of the last record"
    return Measurement("silence", seconds, "s", source, details=details, places=(segment.place(last),))


def _pace(events: Sequence[Event]) -> tuple[float | None, float | None]:
    """Median gap (of the last ones, when there are many) and the second longest; None with too few to say.

    The second longest, because one jump of the clock or one suspended night is no habit of the run. Records come in
    bursts (a step, its speed, its memory), so that the gaps between steps tell more.
    """
    stamps = [event.ts for event in events if event.event == "train_step"]
    if len(stamps) <= _MIN_GAPS:
        stamps = [event.ts for event in events]
    gaps = [max(0.0, later - earlier) for earlier, later in pairwise(stamps)]
    if len(gaps) < _MIN_GAPS:
        return None, None
    return median(gaps[-_MEDIAN_OF:]), sorted(gaps)[-2]


def _utc(ts: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(ts))
    except (OverflowError, ValueError, OSError):
        return f"ts {ts:.6g}"


def _writer(run: Run) -> Measurement:
    if run.writer_alive is not None:
        source = "pid, pid_start, boot_id and host of run_start.meta, held against this machine"
        return Measurement("writer", "alive" if run.writer_alive else "gone", "state", source)
    reason = "read it on the machine (and in the container) where it is written, by a recent gradience_emit."
    return Measurement("writer", None, "state", reason=reason)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """Error for a run that failed, crashed or fell silent, warning for one without an end, info for an early stop."""
    status, *others = measurements
    if status.value is None:
        silence, writer = others
        found = [_crashed(status, writer), _silent(silence, writer, policy), _no_end(status, writer)]
        return [finding for finding in found if finding is not None]
    if status.value == RunStatus.OK:
        return []
    step, reason = status.details["last_step"], status.details["reason"].rstrip(".")
    at = ("" if step is None else f" at step {step}") + (f": {reason}" if reason else "")
    failed = status.value == RunStatus.ERROR
    return [
        Finding(
            code="run_error" if failed else "run_aborted",
            severity=Severity.ERROR if failed else Severity.INFO,
            message=f"Training {'ended with an error' if failed else 'was stopped early'}{at}.",
            evidence=dict(status.details),
            advice=(
                "Read the reason; then resume from the last checkpoint, or start again."
                if failed
                else "Nothing to do if that was meant, as with early stopping."
            ),
            basis="run_end says so",
            places=status.places,
        )
    ]


def _crashed(status: Measurement, writer: Measurement) -> Finding | None:
    if writer.value != "gone":
        return None
    return Finding(
        code="run_crashed",
        rule="P05",
        severity=Severity.ERROR,
        message=f"The process that wrote this run is gone, and there is no run_end{_after(status)}.",
        evidence={**status.details, "writer": writer.value, "source": writer.source},
        advice=(
            "Look for what killed it: the system log (out of memory), the job scheduler (time limit), a reboot. "
            "Then resume from the last checkpoint."
        ),
        confidence=0.95,
        basis="this machine wrote it, and there is no such process any more",
        caveat="another process may write on if it appended to this file without a run_start of its own",
        places=status.places,
    )


def _silent(silence: Measurement, writer: Measurement, policy: Policy) -> Finding | None:
    if silence.value is None:
        return None
    limit = _limit(silence, policy)
    if float(silence.value) <= limit:
        return None
    last, alive = silence.details, writer.value == "alive"
    after = "" if last["last_step"] is None else f" (step {last['last_step']})"
    words = f"for longer than the limit of {_span(limit)}"
    return Finding(
        code="run_silent",
        rule="P04",
        severity=Severity.ERROR,
        message=f"There is no run_end, and nothing was written after {last['last_record']}{after}, {words}.",
        evidence={**last, "limit_s": limit, "writer": writer.value},
        advice=(
            "The process still runs: look at what it waits for (a collective, data loading, the disk)."
            if alive
            else "Look whether its process still runs; if it does, at what it waits for (a collective, data loading, "
            "the disk), else for what killed it, and resume."
        ),
        confidence=0.8 if last["typical_gap_s"] is not None else 0.6,
        basis=f"the pace of the records before; the limits are {_standing(policy)}",
        caveat="an evaluation or a save that takes far longer than any before it is silent too",
        places=silence.places,
    )


def _limit(silence: Measurement, policy: Policy) -> float:
    """The silence in seconds beyond which there is a finding."""
    typical: float | None = silence.details["typical_gap_s"]
    pause: float = silence.details["longest_repeated_gap_s"] or 0.0
    if typical is None:
        return policy.limit("run_status.silent_without_pace")
    return max(
        policy.limit("run_status.silent_gaps") * typical,
        policy.limit("run_status.silent_pauses") * pause,
        policy.limit("run_status.silent_time"),
    )


def _standing(policy: Policy) -> str:
    return policy["run_status.silent_gaps"].standing


def _span(seconds: float) -> str:
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _after(status: Measurement) -> str:
    step = status.details["last_step"]
    return "" if step is None else f" after step {step}"


def _no_end(status: Measurement, writer: Measurement) -> Finding:
    if writer.value == "alive":
        return Finding(
            code="no_run_end",
            severity=Severity.INFO,
            message=f"There is no run_end{_after(status)} yet: the run goes on.",
            evidence={**status.details, "writer": writer.value},
            advice="Look again when it has ended, or use --follow.",
            confidence=0.95,
            basis="the process that writes it runs on this machine",
            places=status.places,
        )
    return Finding(
        code="no_run_end",
        severity=Severity.WARNING,
        message=f"There is no run_end{_after(status)}: the run goes on, or it was killed.",
        evidence=dict(status.details),
        advice="If no process writes it any more: look for a kill by the system, then resume.",
        confidence=0.6,
        basis="a killed run and a running one look the same in the file",
        caveat="a run that still trains has no run_end either",
        places=status.places,
    )
