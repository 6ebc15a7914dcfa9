"""The JSON artifact of a monitored run: the same numbers as the text, under stable keys."""

from __future__ import annotations

from typing import Any

from gradience_analysis.diagnostics import Diagnosis
from gradience_analysis.model import Event, Note, Run, Segment
from gradience_analysis.reports.curves import peak_memory, throughput
from gradience_analysis.telemetry.signals import Summary, steps_per_second

SCHEMA = "gradience.monitor/v1"


def run_data(
    run: Run,
    diagnosis: Diagnosis,
    verdict: Note,
    training: dict[str, Summary],
    evaluation: dict[str, dict[str, Summary]],
) -> dict[str, Any]:
    """One entry of `runs`; a value that was not measured is null, with its reason under `measurements`."""
    return {
        "path": run.path,
        "run_id": run.run_id,
        "verdict": {"severity": str(verdict.severity), "text": verdict.text},
        "status": None if run.status is None else str(run.status),
        "reason": run.reason or None,
        "duration_s": run.duration_s,
        "last_step": run.last_step,
        "segments": [_segment(segment) for segment in (*run.segments, *run.other_ranks)],
        "config": None if run.config is None else run.config.to_dict(),
        "meta": dict(run.meta),
        "training": {
            "logged_steps": len(run.logged_steps),
            "curves": {name: _summary(curve) for name, curve in training.items()},
            "steps_per_s": steps_per_second(run),
            "throughput": throughput(run),
            "peak_memory": peak_memory(run),
        },
        "evaluation": {
            split: {name: _summary(curve) for name, curve in metrics.items()} for split, metrics in evaluation.items()
        },
        "generalization_gap": diagnosis.measurement("generalization_gap").to_dict(),
        "measurements": [item.to_dict() for item in diagnosis.measurements],
        "findings": [item.to_dict() for item in diagnosis.findings],
        "alerts": [_alert(event) for event in run.alerts],
        "issues": [issue.to_dict() for issue in run.issues],
        "issue_counts": [
            {"code": item.code, "severity": str(item.severity), "count": item.count} for item in run.issue_counts
        ],
    }


def _segment(segment: Segment) -> dict[str, Any]:
    end = segment.end
    return {
        "path": segment.path,
        "index": segment.index,
        "rank": segment.rank,
        "records": len(segment.events),
        "resume_step": segment.resume_step,
        "status": None if end is None else end.payload["status"],
        "duration_s": segment.duration_s,
    }


def _summary(curve: Summary) -> dict[str, Any]:
    return {
        "count": curve.count,
        "first": _pair(curve.first),
        "best": _pair(curve.best),
        "max": _pair(curve.peak),
        "last": _pair(curve.last),
    }


def _pair(pair: tuple[int | None, float] | None) -> dict[str, Any] | None:
    return None if pair is None else {"step": pair[0], "value": pair[1]}


def _alert(event: Event) -> dict[str, Any]:
    return {
        "step": event.step,
        "ts": event.ts,
        "severity": event.payload["severity"],
        "code": event.payload["code"],
        "message": event.payload["message"],
        "context": event.payload.get("context"),
    }
