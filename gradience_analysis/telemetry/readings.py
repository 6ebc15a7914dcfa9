"""What a run logged about its machine, process by process, and what it says went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from gradience_analysis.model import Place, Run
from gradience_schema import RunStatus, Severity

_LOUD = frozenset({Severity.WARNING, Severity.ERROR, Severity.CRITICAL})
# Longer texts are whole logs; what went wrong stands at their start.
_TEXT_CHARS = 4_000


class Reading(NamedTuple):
    """One `metrics` record: its step, where it stands, and its values."""

    step: int | None
    place: Place
    values: Mapping[str, Any]


class Complaint(NamedTuple):
    """A text in which a run says that something went wrong.

    Attributes:
        text: The text.
        source: `run_end` or `alert`.
        place: Where it stands.
        final: Whether it stands in the last segment of its rank.
        failed: Whether that segment did not end well: with an error, early, or without a run_end.
    """

    text: str
    source: str
    place: Place
    final: bool
    failed: bool


def readings(run: Run, kind: str) -> tuple[Sequence[Reading], ...]:
    """The `metrics` records of one kind of rank 0, one list for each segment that has some.

    A segment is one process: what it counts starts anew in the next, and steps that were trained again still took
    their time and memory.
    """
    by_segment = (
        [
            Reading(event.step, segment.place(event), event.payload["metrics"])
            for event in segment.events
            if event.event == "metrics" and event.payload["kind"] == kind
        ]
        for segment in run.segments
    )
    return tuple(found for found in by_segment if found)


def complaints(run: Run) -> Iterator[Complaint]:
    """The reasons of every run_end that is not ok, and the alerts from warning up, of every rank, in order."""
    final = {segment.rank: segment for segment in (*run.segments, *run.other_ranks)}
    for segment in (*run.segments, *run.other_ranks):
        is_final = final[segment.rank] is segment
        end = segment.end
        failed = end is None or end.payload["status"] != RunStatus.OK
        for event in segment.events:
            if event.event == "alert" and Severity(event.payload["severity"]) in _LOUD:
                yield Complaint(_words(event.payload), "alert", segment.place(event), is_final, failed)
        reason = None if end is None else end.payload.get("reason")
        if end is not None and failed and isinstance(reason, str):
            yield Complaint(reason[:_TEXT_CHARS], "run_end", segment.place(end), is_final, failed)


def _words(alert: Mapping[str, Any]) -> str:
    """Code, message and the texts of the context."""
    context = alert.get("context")
    inside = cast("dict[str, object]", context).values() if isinstance(context, dict) else ()
    texts = (alert["code"], alert["message"], *(item for item in inside if isinstance(item, str)))
    return "; ".join(text[:_TEXT_CHARS] for text in texts)
