"""What `gradience demo` says of a run with the guard on or with a fault in it: the guard's counts, the final losses."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gradience_analysis.model import Field, Fields, Note, Notes, Report, Section, Table, plural
from gradience_analysis.reports.format import duration, number
from gradience_schema import Severity

if TYPE_CHECKING:
    from gradience_train.demo import DemoResult, FineTune

_SOUND = frozenset({"ok", "recovered"})
_INTEGRITY: Mapping[str, str] = {
    "ok": "ok: nothing was wrong",
    "recovered": "recovered: something was, and the final state is finite",
    "aborted": "aborted: the guard gave up; the final state is finite",
    "corrupted": "corrupted: the final state is not finite",
    "not_checked": "not checked: the run broke off, or the guard failed",
}


def outcome_report(result: DemoResult, *, max_steps: int, nan_at: int | None) -> Report:
    """How a demo with the guard, a fault or both ended.

    What the guard did and the recorded run's training loss are read from its `summary.json`.

    Args:
        result: The demo.
        max_steps: Steps that it was to make.
        nan_at: The step whose loss was made NaN; None for none.
    """
    if result.summary is None:
        verdict, sections = _unguarded(result.run, nan_at)
    else:
        summary: dict[str, Any] = json.loads(result.summary.read_text(encoding="utf-8"))
        verdict, sections = _guarded(result, summary, max_steps, nan_at)
    return Report(kind="demo", title="Demo", verdict=verdict, sections=sections)


def _guarded(
    result: DemoResult, summary: Mapping[str, Any], max_steps: int, nan_at: int | None
) -> tuple[Note, tuple[Section, ...]]:
    guard: Mapping[str, Any] = summary["guard"]
    integrity = guard["integrity_status"]
    success = summary["total_steps"] == max_steps and integrity in _SOUND
    items = (
        *([] if nan_at is None else [Field("fault", f"the loss of step {nan_at} was made NaN")]),
        Field("success", "yes" if success else "no"),
        Field("duration", f"{duration(result.run.seconds)} for {plural(summary['total_steps'], 'step')}{_cost(guard)}"),
        Field("integrity", _INTEGRITY.get(integrity, integrity)),
        Field("rollbacks", number(guard["total_rollbacks"])),
        Field("skips", number(guard["total_skips"])),
        Field("recoveries", number(guard["total_recoveries"])),
    )
    sections = (Section("Guard (experimental)", (Fields(items),)), _losses(result, _loss(summary["final_loss"])))
    return _verdict(guard, success=success, nan_at=nan_at), sections


def _cost(guard: Mapping[str, Any]) -> str:
    spent = guard["ms_per_step"]
    return "" if spent is None else f", {number(spent)} ms of each in the guard"


def _verdict(guard: Mapping[str, Any], *, success: bool, nan_at: int | None) -> Note:
    done = f"{plural(guard['total_skips'], 'skipped update')}, {plural(guard['total_rollbacks'], 'rollback')}"
    if not success:
        return Note(Severity.ERROR, f"The guard did not save the run: {guard['gave_up'] or guard['integrity_status']}.")
    if nan_at is not None:
        return Note(Severity.INFO, f"The run got over the NaN of step {nan_at}: {done}, and the final state is finite.")
    if guard["total_skips"] + guard["total_rollbacks"]:
        return Note(Severity.WARNING, f"The guard acted in a run without a fault of ours: {done}.")
    return Note(Severity.INFO, "The guard was on, and had nothing to do.")


def _losses(result: DemoResult, final_loss: float | None) -> Section:
    beside = result.without_fault
    ours = (final_loss, result.run.val_loss, result.run.test_loss)
    names = ("training", "validation", "test")
    if beside is None:
        fields = tuple(Field(name, number(loss)) for name, loss in zip(names, ours, strict=True))
        return Section("Final loss", (Fields(fields),))
    theirs = (beside.train_loss, beside.val_loss, beside.test_loss)
    columns = ("loss", "this run", "without the fault")
    cells = tuple((name, number(one), number(other)) for name, one, other in zip(names, ours, theirs, strict=True))
    return Section(
        "Final loss, beside the same run without the fault", (Table(columns, cells, frozenset(columns[1:])),)
    )


def _loss(value: float | str | None) -> float | None:
    """As in `summary.json`, where a loss that is not finite stands as its name."""
    return float(value) if isinstance(value, str) else value


def _unguarded(run: FineTune, nan_at: int | None) -> tuple[Note, tuple[Section, ...]]:
    lost = run.test_loss is None or not math.isfinite(run.test_loss)
    text = (
        f"The run is lost: the loss of step {nan_at} was NaN, and so is every evaluation after it."
        if lost
        else f"The loss of step {nan_at} was NaN, and the run got over it without a guard."
    )
    logged = number(run.train_loss)
    if lost and run.train_loss is not None and math.isfinite(run.train_loss):
        logged += ": what the trainer logs for NaN (logging_nan_inf_filter)"
    items = (
        Field("fault", f"the loss of step {nan_at} was made NaN"),
        Field("guard", "off"),
        Field("duration", f"{duration(run.seconds)} for {plural(run.steps, 'step')}"),
        Field("training loss", logged),
        Field("validation", number(run.val_loss)),
        Field("test", number(run.test_loss)),
    )
    note = Note(Severity.INFO, "The guard drops such a step: add --guard here, enable_guard=True in your own training.")
    return (
        Note(Severity.ERROR if lost else Severity.WARNING, text),
        (Section("Without a guard", (Fields(items), Notes((note,)))),),
    )
