"""Where the records stand that a curve was taken from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradience_analysis.model import Event, Place, Run, canonical_split


def train_step_places(run: Run, steps: Iterable[int], field: str = "loss") -> tuple[Place, ...]:
    """File and line of the `train_step` records that log this field at these steps; each step once, in the order given.

    A step without such a record is named all the same, without a file.
    """
    return _places(run, (event for event in run.of("train_step") if field in event.payload), steps)


def evaluation_places(run: Run, split: str, steps: Iterable[int | None]) -> tuple[Place, ...]:
    """File and line of the evaluations of a canonical split at these steps; each step once, in the order given."""
    records = (event for event in run.of("eval") if canonical_split(event.payload["split"]) == split)
    return _places(run, records, (step for step in steps if step is not None))


def _places(run: Run, records: Iterable[Event], steps: Iterable[int]) -> tuple[Place, ...]:
    wanted = dict.fromkeys(steps)
    at = {event.step: event for event in records if event.step in wanted}
    paths = _paths(run, tuple(at.values()))
    return tuple(
        Place(step) if (event := at.get(step)) is None else Place(step, paths.get(id(event), ""), event.line)
        for step in wanted
    )


def _paths(run: Run, events: Sequence[Event]) -> dict[int, str]:
    """The file of each of these records, by its identity: one pass over the run for all of them."""
    wanted = {id(event) for event in events}
    return (
        {id(event): segment.path for segment in run.segments for event in segment.events if id(event) in wanted}
        if wanted
        else {}
    )
