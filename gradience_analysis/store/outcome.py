"""What an ingest did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gradience_analysis.errors import InputError


@dataclass
class Ingested:
    """What an ingest read and what it found; paths as the store names them.

    Attributes:
        store: The folder.
        new: Files that were not in the store.
        changed: Files that had grown or changed, and were read again.
        again: Files read again for another reason: `rebuild`, or because what the store held of them was damaged.
        unchanged: Files of the same size and time of change, or of the same content: their rows stayed.
        moved: Files whose content was in the store under a name that is gone: new name and old name.
        gone: Files whose rows are kept though the file is no longer there.
        pruned: Files whose rows were dropped because the file is no longer there.
        unread: What could not be read, with the reason; what the store held of it stays.
        damaged: Files of the store that were damaged, missing or foreign: the new name of each, or its name if missing.
        lost: Files that are gone and of which damaged files of the store held rows.
        rows: Rows that were read, by table.
        files_refusing: Files among those read that have a line that was refused.
        files_without_events: Files among those read without a single event.
        written: Parquet files that were written.
        runs: Runs that the store holds now.
    """

    store: str
    new: list[str] = field(default_factory=list[str])
    changed: list[str] = field(default_factory=list[str])
    again: list[str] = field(default_factory=list[str])
    unchanged: list[str] = field(default_factory=list[str])
    moved: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    gone: list[str] = field(default_factory=list[str])
    pruned: list[str] = field(default_factory=list[str])
    unread: list[InputError] = field(default_factory=list[InputError])
    damaged: list[str] = field(default_factory=list[str])
    lost: list[str] = field(default_factory=list[str])
    rows: Counter[str] = field(default_factory=Counter[str])
    files_refusing: list[str] = field(default_factory=list[str])
    files_without_events: list[str] = field(default_factory=list[str])
    written: int = 0
    runs: int = 0

    @property
    def read(self) -> int:
        """How many files were read."""
        return len(self.new) + len(self.changed) + len(self.again) + len(self.moved)
