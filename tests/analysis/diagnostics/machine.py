"""Builds runs that log what their machine does; their times are those of a real clock."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from gradience_analysis.diagnostics import (
    Diagnosis,
    Diagnostic,
    clock,
    device,
    diagnose,
    host_memory,
    logged_values,
    loss_scale,
    memory,
    out_of_memory,
    ranks,
    run_status,
    telemetry_quality,
    throughput,
)
from gradience_analysis.model import Finding
from gradience_analysis.policy import load_policy
from gradience_analysis.telemetry.assemble import load_run
from tests.analysis.records import end, record, start, write

T0 = 1_768_400_000.0
"""2026-01-14 14:13:20 UTC."""
Records = list[Any]
MACHINE_AND_FILE: tuple[Diagnostic, ...] = (
    *(run_status, out_of_memory, memory, host_memory, throughput, loss_scale, device, ranks, clock),
    *(telemetry_quality, logged_values),
)
"""What these tests are about: the curves of their runs are as plain as they can be, and say nothing."""


def began(**meta: Any) -> dict[str, Any]:
    """A run_start at T0."""
    return start(ts=T0, **meta)


def ended(status: str = "ok", *, after: float = 10_000.0, **fields: Any) -> dict[str, Any]:
    """A run_end some seconds after T0."""
    return end(status, ts=T0 + after, **fields)


def step(number: int, *, after: float | None = None, **fields: Any) -> dict[str, Any]:
    """A train_step, by default as many seconds after T0 as it has steps."""
    values = {"loss": 2.0 / (1.0 + 0.01 * number), "lr": 1e-4, "grad_norm": 1.0, **fields}
    return record("train_step", number, ts=T0 + (number if after is None else after), **values)


def steps(last: int, every: int = 1, **fields: Any) -> Records:
    """Train steps a second apart, from `every` to `last`."""
    return [step(number, **fields) for number in range(every, last + 1, every)]


def logged(number: int, kind: str, **values: Any) -> dict[str, Any]:
    """A `metrics` record of one kind at a step, as many seconds after T0."""
    return record("metrics", number, ts=T0 + number, kind=kind, metrics=values)


def alert(
    number: int, message: str, *, severity: str = "error", code: str = "TRAINER", **context: Any
) -> dict[str, Any]:
    """An alert at a step."""
    more = {"context": context} if context else {}
    return record("alert", number, ts=T0 + number, severity=severity, code=code, message=message, **more)


def diagnosed(folder: Path, records: Iterable[Mapping[str, Any] | bytes | str], *, now: float = 0.0) -> Diagnosis:
    """What is measured and found in a file with these records, read `now` seconds after T0."""
    return judged(write(folder / "run.jsonl", records), now=now)


def judged(path: Path, *, now: float | None = 0.0, strict: bool = False) -> Diagnosis:
    """The same of what lies at a path; `now` of None is the time of the clock."""
    run = load_run(path, now=None if now is None else T0 + now, strict=strict)
    return diagnose(run, MACHINE_AND_FILE, load_policy())


def findings(
    folder: Path, records: Iterable[Mapping[str, Any] | bytes | str], *, now: float = 0.0
) -> tuple[Finding, ...]:
    """The findings alone."""
    return diagnosed(folder, records, now=now).findings


def by_code(found: Collection[Finding]) -> dict[str, Finding]:
    """Findings by code, of which each occurs once."""
    codes = [finding.code for finding in found]
    assert len(set(codes)) == len(codes), f"said twice: {codes}"
    return {finding.code: finding for finding in found}
