"""A run while it is written: each new line is read once, and the run can be put together at any time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from gradience_analysis.errors import InputError, NoTelemetryError
from gradience_analysis.model import Event, Run
from gradience_analysis.sources.lines import iter_lines
from gradience_analysis.sources.opening import is_folder
from gradience_analysis.telemetry.assemble import build_run
from gradience_analysis.telemetry.cross_line import CrossLineCheck
from gradience_analysis.telemetry.files import TelemetryFile, find_files
from gradience_analysis.telemetry.foreign import foreign_format
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.read import LineReader
from gradience_analysis.telemetry.stretches import FileSplit


class _Identity(NamedTuple):
    """What tells a file from another one at the same path."""

    device: int
    inode: int


class _Tail:
    """One file, and how far it was read."""

    def __init__(self, file: TelemetryFile, identity: _Identity, log: IssueLog) -> None:
        self.path = file.path
        self.identity = identity
        self.reader = LineReader(file.path, log)
        self.check = CrossLineCheck(file.path, log, ())
        self.split = FileSplit(file)
        self.offset = 0

    def read(self) -> list[Event]:
        """The events of the lines that are whole by now; a line without its newline is still being written."""
        events: list[Event] = []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for line in iter_lines(file, self.path, number=self.reader.lines, offset=self.offset):
                if not line.ended:
                    break
                event = self.reader.read_line(line)
                self.offset = line.offset + line.size + 1
                if event is not None:
                    self.check.observe(event, self.reader.rejected)
                    self.split.add(event)
                    events.append(event)
        return events


class Follower:
    """Follows the newest run of a file or folder.

    New segments are found as they appear. A file that was replaced by another one, or cut short, is read anew.

    Args:
        path: A telemetry file, or the folder it is in or will be in.

    Raises:
        InputError: There is no such path, or it is a log that cannot be followed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._tails: dict[Path, _Tail] = {}
        self._log = IssueLog()
        self._latest: Event | None = None
        if not is_folder(self.path):
            find_files(self.path)  # says what is wrong with it
            if self.path.name.endswith(".gz") or foreign_format(self.path) is not None:
                hint = "Leave out --follow to read what there is."
                raise InputError(str(path), "is no telemetry file that is still written.", hint)

    @property
    def latest(self) -> Event | None:
        """The `train_step` with a loss, or evaluation, that was read last."""
        return self._latest

    def poll(self) -> list[Event]:
        """Read what was written since the last call; the new events, in the order of the files.

        Raises:
            InputError: A file cannot be read any more.
        """
        events: list[Event] = []
        for file in self._files():
            tail = self._tail(file)
            if tail is not None and tail.path.stat().st_size > tail.offset:
                events += tail.read()
        for event in events:
            if event.event == "eval" or (event.event == "train_step" and "loss" in event.payload):
                self._latest = event
        return events

    def run(self) -> Run | None:
        """The newest run as it stands; None as long as nothing of one was read."""
        stretches = [stretch for tail in self._tails.values() for stretch in tail.split.stretches]
        if not stretches:
            return None
        run_id = max(stretches, key=lambda stretch: stretch.events[0].ts).run_id
        mine = [stretch for stretch in stretches if stretch.run_id == run_id]
        rejected = sum(tail.reader.rejected for tail in self._tails.values())
        missing = sum(tail.check.missing for tail in self._tails.values())
        return build_run(self.path, run_id, mine, self._log, rejected=rejected, missing=missing)

    def _files(self) -> list[TelemetryFile]:
        try:
            return find_files(self.path)
        except NoTelemetryError:
            return []  # not yet

    def _tail(self, file: TelemetryFile) -> _Tail | None:
        """The state of a file; a new one when it is another file than before."""
        if file.path.name.endswith(".gz"):
            return None
        try:
            status = os.stat(file.path)  # noqa: PTH116 - one call for identity and size
        except FileNotFoundError:
            return None
        identity = _Identity(status.st_dev, status.st_ino)
        tail = self._tails.get(file.path)
        if tail is None or tail.identity != identity or status.st_size < tail.offset:
            tail = self._tails[file.path] = _Tail(file, identity, self._log)
        return tail
