"""Splits a file into the uninterrupted parts of its runs, while it is read: the rule of `load_run`, over rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gradience_analysis.model import Event
from gradience_analysis.tables.layout import PARTS
from gradience_analysis.telemetry.batches import Rows
from gradience_analysis.telemetry.files import name_parts


@dataclass
class Part:
    """One uninterrupted stretch of a run; attributes as the columns of `PARTS`."""

    part: int
    run_id: str
    first_ts: float
    last_ts: float
    records: int = 0
    segment: int | None = None
    resume_step: int | None = None
    first_step: int | None = None
    last_step: int | None = None
    end_ts: float | None = None
    status: str | None = None
    reason: str | None = None
    last_trained: int = -1
    started: bool = False


class Parts:
    """The parts of one file, in order of their first record."""

    def __init__(self) -> None:
        self.found: list[Part] = []
        self._current: dict[str, Part] = {}

    def place(self, event: Event) -> Part:
        """The part that the next event belongs to: a new one where a run starts again, or its training goes back."""
        part = self._current.get(event.run_id)
        trained = event.step if event.event == "train_step" else None
        again = event.event == "run_start" or (trained is not None and part is not None and trained < part.last_trained)
        if part is None or again:
            part = self._begin(event.run_id, event.ts)
        self._count(part, 1, event.ts, event.step)
        if trained is not None:
            self._train(part, trained, trained)
        elif event.event == "run_start" and not part.started:
            _start(part, event)
        elif event.event == "run_end":
            part.end_ts, part.status, reason = event.ts, event.payload["status"], event.payload.get("reason")
            part.reason = reason if isinstance(reason, str) else None
        return part

    def place_rows(self, rows: Rows) -> Part | None:
        """The part that all these rows belong to; None when they have to be placed one by one."""
        run_ids = rows.run_ids
        steps = rows.steps
        if len(run_ids) > 1 or not rows.steps_rise:
            return None
        (run_id,) = run_ids
        part = self._current.get(run_id)
        if part is None or steps[0] < part.last_trained:
            part = self._begin(run_id, rows.records[0].ts)
        self._count(part, len(steps), rows.records[-1].ts, steps[-1])
        self._train(part, steps[0], steps[-1])
        return part

    def _begin(self, run_id: str, ts: float) -> Part:
        part = Part(len(self.found), run_id, ts, ts)
        self.found.append(part)
        self._current[run_id] = part
        return part

    def _count(self, part: Part, records: int, ts: float, step: int | None) -> None:
        part.records += records
        part.last_ts = ts
        if step is not None:
            part.last_step = step if part.last_step is None else max(step, part.last_step)

    def _train(self, part: Part, first: int, last: int) -> None:
        part.last_trained = last
        if part.first_step is None:
            part.first_step = first

    def rows(self, path: str) -> list[tuple[Any, ...]]:
        """Their rows in the table `parts`."""
        _, rank, index = name_parts(Path(path))
        file = {"path": path, "rank": rank, "index": index}
        return [
            tuple(file[name] if name in file else getattr(part, name) for name in PARTS.names) for part in self.found
        ]


def _start(part: Part, event: Event) -> None:
    part.started = True
    meta = event.payload.get("meta")
    said = cast("dict[str, Any]", meta) if isinstance(meta, dict) else {}
    part.segment, part.resume_step = (_whole(said.get(name)) for name in ("segment", "resume_step"))


def _whole(value: Any) -> int | None:
    return None if value is None or int(value) >= 1 << 63 else int(value)


def segments_of(parts: Any) -> Iterator[tuple[list[dict[str, Any]], bool]]:
    """The parts of each run and rank in segment order, and whether that rank is the lowest of its run.

    Args:
        parts: A `parts` table, of any number of files.
    """
    from gradience_analysis.telemetry.ordering import in_order

    by_run: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for row in parts.to_pylist():
        by_run.setdefault(row["run_id"], {}).setdefault(row["rank"], []).append(row)
    for ranks in by_run.values():
        lowest = min(ranks)
        for rank, rows in ranks.items():
            yield (
                in_order(rows, lambda row: row["segment"], lambda row: (row["index"], row["part"])),
                rank == lowest,
            )
