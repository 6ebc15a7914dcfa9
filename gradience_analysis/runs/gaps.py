"""The generalization gap of runs in tables: the numbers go to the one definition, `telemetry.signals`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gradience_analysis.model import Event, Run
from gradience_analysis.telemetry.signals import Gap, generalization_gap


class EvalRow(NamedTuple):
    """One number of one evaluation; rows of one evaluation have the same place."""

    place: tuple[Any, ...]
    step: int | None
    split: str
    metric: str
    value: float | int | None


def gap_of(run_id: str, rows: Sequence[EvalRow], losses: Callable[[], Sequence[tuple[int, float]]]) -> Gap | str:
    """The gap, or a sentence that says why there is none, exactly as for a loaded run.

    Args:
        run_id: The run.
        rows: Its evaluations in the analysis view, in order.
        losses: Gives (step, loss) of its `train_step` records; asked only when the evaluations do not suffice.
    """
    evaluations = _evaluations(run_id, rows)
    found = generalization_gap(_run(run_id, evaluations))
    if isinstance(found, Gap) or not evaluations:
        return found
    steps = [_event("train_step", run_id, step, {"loss": loss}) for step, loss in losses()]
    return generalization_gap(_run(run_id, [*steps, *evaluations])) if steps else found


def _evaluations(run_id: str, rows: Sequence[EvalRow]) -> list[Event]:
    events: dict[tuple[Any, ...], Event] = {}
    for row in rows:
        event = events.get(row.place)
        if event is None:
            event = events[row.place] = _event("eval", run_id, row.step, {"split": row.split, "metrics": {}})
        event.payload["metrics"][row.metric] = row.value
    return list(events.values())


def _event(kind: str, run_id: str, step: int | None, payload: dict[str, Any]) -> Event:
    return Event(kind, 0.0, run_id, step, payload, 0, 0)


def _run(run_id: str, events: Sequence[Event]) -> Run:
    return Run(path="", run_id=run_id, segments=(), events=tuple(events))
