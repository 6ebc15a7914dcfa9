"""The seam: what every importer offers, and what the reading side may rely on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from gradience_analysis.model import Event, Issue

HEAD_BYTES = 1 << 16
"""How much of a file `Importer.sniff` is shown."""


class Importer(Protocol):
    """Reads one foreign format.

    What `read` gives is telemetry/v1 in meaning: the first event is a `run_start`, every event is accepted by the
    published schema, `ts` and `seq` count on from it, and there is a `run_end` only where the file says that
    training ended. A file in which `step` jumps back, or in which training goes on after its end, gives a further
    `run_start` there, with `meta.segment` 1, 2, ...

    A format without times gives the 0-based order of the records as `ts` and says so in `meta.ts_source`:
    `"order"` in place of `"file"`. `run_id` is made of the resolved path: the same file keeps it while it grows, two
    files never share it, and a copy elsewhere is another run. `Event.line` is the line of the source; of a format
    that is one document over many lines it is the 1-based number of the row.
    """

    @property
    def name(self) -> str:
        """Slug for `--from` and `meta.source_format`, such as `hf-trainer-state`."""
        ...

    @property
    def title(self) -> str:
        """The format in words, after "it looks like": `a Hugging Face trainer_state.json`."""
        ...

    def sniff(self, head: bytes, path: Path) -> bool:
        """Whether a file is of this format, from its first `HEAD_BYTES` bytes and its name; never raises."""
        ...

    def read(self, path: Path) -> Iterator[Event | Issue]:
        """Events in file order, with the faults of the file between them.

        Raises:
            InputError: The path cannot be read, or holds nothing of this format.
        """
        ...
