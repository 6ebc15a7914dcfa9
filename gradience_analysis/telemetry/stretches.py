"""A file as uninterrupted stretches of runs: a new one where a run starts again or its `train_step` goes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from gradience_analysis.model import Event
from gradience_analysis.telemetry.batches import Rows
from gradience_analysis.telemetry.files import TelemetryFile


@dataclass
class Stretch:
    """An uninterrupted part of one file, on its way to become a segment.

    Attributes:
        file: The file.
        part: Position in the file, from 0.
        events: Its records, at least one.
    """

    file: TelemetryFile
    part: int
    events: list[Event] = field(default_factory=list[Event])

    @property
    def run_id(self) -> str:
        """The run it belongs to."""
        return self.events[0].run_id

    @property
    def start(self) -> Event | None:
        """Its first `run_start`, or None."""
        return next((event for event in self.events if event.event == "run_start"), None)

    @property
    def meta(self) -> dict[str, Any]:
        """`run_start.meta`, empty when there is none."""
        meta = None if self.start is None else self.start.payload.get("meta")
        return cast("dict[str, Any]", meta) if isinstance(meta, dict) else {}

    @property
    def number(self) -> int | None:
        """`meta.segment`; None when the run_start names none, as that of a first segment does."""
        number = self.meta.get("segment")
        return None if number is None else int(number)


class FileSplit:
    """Stretches of one file: a new one where a run starts again or its `train_step` goes back."""

    def __init__(self, file: TelemetryFile) -> None:
        self.stretches: list[Stretch] = []
        self._file = file
        self._current: dict[str, Stretch] = {}
        self._last_step: dict[str, int] = {}

    def add(self, event: Event) -> None:
        """Add the next event of the file."""
        stretch = self._current.get(event.run_id)
        trained = event.step if event.event == "train_step" else None
        back = trained is not None and trained < self._last_step.get(event.run_id, -1)
        if stretch is None or back or event.event == "run_start":
            stretch = self._begin(event.run_id)
        stretch.events.append(event)
        if trained is not None:
            self._last_step[event.run_id] = trained

    def add_rows(self, rows: Rows) -> None:
        """Add the next rows of the file."""
        run_id, *others = rows.run_ids
        if others or not rows.steps_rise or rows.steps[0] < self._last_step.get(run_id, -1):
            for event in rows.events():
                self.add(event)
            return
        stretch = self._current.get(run_id) or self._begin(run_id)
        stretch.events.extend(rows.events())
        self._last_step[run_id] = rows.steps[-1]

    def _begin(self, run_id: str) -> Stretch:
        stretch = Stretch(self._file, len(self.stretches))
        self.stretches.append(stretch)
        self._current[run_id] = stretch
        self._last_step.pop(run_id, None)
        return stretch
