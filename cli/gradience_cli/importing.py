"""Events of a foreign log to telemetry/v1 files: encoded as the emitter encodes, written aside, then renamed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from gradience_analysis.errors import GradienceError, InputError
from gradience_analysis.importers.base import Importer
from gradience_analysis.model import Event, Issue
from gradience_analysis.reports.imported import Imported
from gradience_analysis.telemetry.issues import IssueLog
from gradience_emit.conform import conform
from gradience_emit.encode import Normaliser, dumps
from gradience_emit.record import MAX_LINE_BYTES
from gradience_emit.redact import Redactor
from gradience_schema import SCHEMA_ID, Severity

_SUFFIX = ".jsonl"
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})


def import_log(path: Path, importer: Importer, out: Path, *, force: bool = False) -> Imported:
    """Read a foreign log and write it as telemetry/v1: a file for each segment, `run.jsonl`, `run.1.jsonl`, ...

    Nothing is at its place before everything was written, and what was there stays, unless `force` is given.

    Args:
        path: The log.
        importer: Reads it.
        out: The first file to write; its name ends in .jsonl.
        force: Replace files that exist.

    Raises:
        InputError: The log cannot be read, or a file cannot be written.
        GradienceError: `out` exists, is the log itself, or has a name that segments cannot be named after.
    """
    _check(path, out, force=force)
    log = IssueLog()
    segments = _Segments(out, log, str(path))
    try:
        for item in importer.read(path):
            if isinstance(item, Issue):
                log.add(item)
            else:
                segments.write(item)
        segments.publish(force=force)
    except OSError as error:
        raise InputError(str(out), f"cannot be written: {error.strerror}.") from error
    finally:
        segments.discard()
    return Imported(
        source=str(path),
        format=importer.name,
        title=importer.title,
        run_id=segments.run_id,
        has_times=segments.has_times,
        files=tuple((str(target), count) for target, count in zip(segments.targets, segments.counts, strict=True)),
        events=dict(segments.events),
        issues=tuple(log.kept),
        issue_counts=log.counts,
    )


def _check(path: Path, out: Path, *, force: bool) -> None:
    if not out.name.endswith(_SUFFIX) or out.name == _SUFFIX:
        raise GradienceError(f"{out}: the name of a telemetry file ends in {_SUFFIX}.", "Try --out run.jsonl.")
    if out.exists() and path.exists() and out.samefile(path):
        raise GradienceError(f"{out}: is the log itself.", "Give another name with --out.")
    if os.path.lexists(out) and not force:
        raise _exists(out)


def _exists(target: Path) -> GradienceError:
    return GradienceError(f"{target}: exists already.", "Give another name with --out, or --force to replace it.")


@dataclass
class _Segments:
    """The files of one import, beside their places until `publish`."""

    out: Path
    log: IssueLog
    source: str
    run_id: str = ""
    has_times: bool = False
    targets: list[Path] = field(default_factory=list[Path])
    counts: list[int] = field(default_factory=list[int])
    events: Counter[str] = field(default_factory=Counter[str])
    _aside: list[Path] = field(default_factory=list[Path])
    _file: IO[bytes] | None = None
    _normaliser: Normaliser = field(default_factory=lambda: Normaliser(Redactor(allow_text=True)))

    def write(self, event: Event) -> None:
        """Append one event to the current segment; a `run_start` opens the next one."""
        starts = event.event == "run_start"
        file = self._open_next() if starts or self._file is None else self._file
        line = self._line(event, seq=self.counts[-1])
        if len(line) > MAX_LINE_BYTES:
            self._too_long(event, len(line), starts=starts)
            return
        file.write(line)
        self.counts[-1] += 1
        self.events[event.event] += 1
        if starts and not self.run_id:
            self.run_id = event.run_id
            self.has_times = event.payload.get("meta", {}).get("ts_source") == "file"

    def publish(self, *, force: bool) -> None:
        """Put every file at its place.

        Raises:
            GradienceError: One of them exists, and `force` was not given.
            InputError: There is nothing to publish.
        """
        self._close()
        if not self.targets:
            raise InputError(self.source, "holds nothing to import.")
        stale = self._stale()
        for target in (*self.targets, *stale):
            if os.path.lexists(target) and not force:
                raise _exists(target)
        for aside, target in zip(self._aside, self.targets, strict=True):
            if force:
                aside.replace(target)
            else:
                _move_to_free_name(aside, target)
        for target in stale:
            target.unlink()

    def discard(self) -> None:
        """Remove what is still beside its place."""
        self._close()
        for aside in self._aside:
            aside.unlink(missing_ok=True)

    def _open_next(self) -> IO[bytes]:
        self._close()
        number = len(self.targets)
        stem = self.out.name.removesuffix(_SUFFIX)
        if number and re.search(r"\.\d+$", stem):
            message = f"{self.out}: the log holds several segments, and this name is that of one of them."
            raise GradienceError(message, "Try --out run.jsonl; the others become run.1.jsonl, run.2.jsonl.")
        target = self.out if not number else self.out.with_name(f"{stem}.{number}{_SUFFIX}")
        aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
        self._file = file = aside.open("xb")
        self._aside.append(aside)
        self.targets.append(target)
        self.counts.append(0)
        return file

    def _close(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def _line(self, event: Event, *, seq: int) -> bytes:
        normaliser = self._normaliser
        notes = normaliser.start()
        payload = dict(event.payload)
        renamed: dict[str, str] = payload.pop("renamed", {})
        tree: dict[str, Any] = {}
        for name, value in payload.items():
            key, is_secret = normaliser.name(name)
            tree[key] = normaliser.secret(key, value) if is_secret else normaliser.member(key, value)
        conform(event.event, tree, notes)
        record: dict[str, Any] = {
            "schema": SCHEMA_ID,
            "ts": event.ts,
            "run_id": event.run_id,
            "event": event.event,
            "step": event.step,
            **tree,
            "seq": seq,
        }
        if notes.nonfinite:
            record["nonfinite"] = dict(notes.nonfinite)
        if notes.renamed or renamed:
            record["renamed"] = {**renamed, **notes.renamed}
        return dumps(record) + b"\n"

    def _too_long(self, event: Event, size: int, *, starts: bool) -> None:
        if starts:
            raise InputError(self.source, f"has a configuration of {size:,} bytes; a record has {MAX_LINE_BYTES:,}.")
        message = f"gives a record of {size:,} bytes; a record has at most {MAX_LINE_BYTES:,}. It is left out."
        place = (event.line, event.byte_offset)
        self.log.add(Issue("line_too_long", Severity.ERROR, message, self.source, *place))

    def _stale(self) -> list[Path]:
        """Segments of the same run that an earlier import left: readers would take them for part of this one."""
        stem = re.escape(self.out.name.removesuffix(_SUFFIX))
        named = re.compile(rf"{stem}\.([1-9]\d{{0,8}}){re.escape(_SUFFIX)}")
        return [
            path
            for path in sorted(self.out.parent.iterdir())
            if (found := named.fullmatch(path.name))
            and int(found[1]) >= len(self.targets)
            and path.is_file()
            and _run_id_in(path) == self.run_id
        ]


def _run_id_in(path: Path) -> str | None:
    """The run id of a file's first record; None when it has none."""
    with contextlib.suppress(OSError, ValueError, AttributeError), path.open("rb") as file:
        run_id = json.loads(file.readline(MAX_LINE_BYTES)).get("run_id")
        return run_id if isinstance(run_id, str) else None
    return None


def _move_to_free_name(aside: Path, target: Path) -> None:
    """Rename, but never onto a file that has come into being since it was looked for."""
    try:
        os.link(aside, target)
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        aside.rename(target)
        return
    aside.unlink()
