"""One recorded run of a trainer: its segment from ``run_start`` to ``run_end``, whatever ends the process."""

from __future__ import annotations

import atexit
import sys
import uuid
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gradience_emit.boundary import attempt
from gradience_emit.emitter import TelemetryWriter, describe_exception
from gradience_emit.hf.config import GradienceCallbackConfig
from gradience_emit.segments import find_segments

__all__ = ["EVALUATION_ONLY", "Recording", "newest_run_id", "segment_base", "shared_run_id"]

EVALUATION_ONLY: Final = "evaluation only"
_UNFINISHED: Final = "process ended before training finished"
_unfinished: set[Recording] = set()
"""Recordings without ``run_end``: kept alive here, since their trainer may be gone before the process ends."""


class Recording:
    """A segment being written, and how far its run has come.

    Attributes:
        writer: the segment.
        training: whether training has begun in it.
        failure: the last exception seen inside training, already described; it ended training if nothing else did.
    """

    def __init__(self, options: GradienceCallbackConfig, base: Path, run_id: str | None) -> None:
        self.writer = TelemetryWriter(
            base,
            run_id,
            max_str_len=options.telemetry_max_str_len,
            allow_text=options.telemetry_allow_text,
        )
        self.training = False
        self.failure: dict[str, str] | None = None
        self._exception_before = id(_uncaught())
        _unfinished.add(self)
        # the writer closes itself when the process exits; this is for a process that lives on
        weakref.finalize(self, self.writer.close).atexit = False

    @property
    def ended(self) -> bool:
        """Whether ``run_end`` was written."""
        return self.writer.ended

    def finish(self, status: str, reason: str | None = None, extras: Mapping[str, Any] | None = None) -> None:
        """Write ``run_end``, once. The segment stays open for evaluations that follow."""
        if not self.ended:
            self.writer.run_end(status=status, reason=reason, **(extras or {}))
        _unfinished.discard(self)

    def abandon(self, reason: str = _UNFINISHED) -> None:
        """Write ``run_end`` for a run that nothing ended: ``ok`` if it only evaluated, else an error."""
        if self.training:
            failure = self.failure or {"status": "error", "reason": reason}
            self.finish(failure["status"], failure["reason"])
        else:
            self.finish("ok", EVALUATION_ONLY)

    def close(self) -> None:
        """Finish, if need be, and release the file."""
        self.abandon()
        self.writer.close()

    def finish_at_exit(self) -> None:
        """Write ``run_end`` with what is ending the process: an uncaught exception, when there is one."""
        uncaught = _uncaught()
        if self.training and uncaught is not None and id(uncaught) != self._exception_before:
            self.failure = describe_exception(uncaught)
        self.abandon()


def segment_base(folder: str, filename: str, rank: int) -> Path:
    """The file of a rank: ``run.jsonl`` for rank 0, ``run.rank3.jsonl`` for rank 3."""
    path = Path(folder) / filename
    return path if rank == 0 else path.with_name(f"{path.stem}.rank{rank}{path.suffix}")


def newest_run_id(base: Path, other_than: str | None = None) -> str | None:
    """The run that the newest readable segment of ``base`` belongs to; None when there is none."""
    known = [head.run_id for head in find_segments(base) if head.run_id not in {None, other_than}]
    return known[-1] if known else None


def shared_run_id(run_id: str | None) -> str:
    """One run id for all ranks: rank 0's, sent to the others. A collective operation."""
    own = run_id or str(uuid.uuid4())
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return own

    def agree() -> str:
        box = [own]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    return attempt(agree, lambda _: own)


def _uncaught() -> BaseException | None:
    """The exception that the interpreter reported last, which is the one ending the process when one does."""
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)


@atexit.register
def _finish_all() -> None:
    # registered after the emitter's own handler, so it runs before the writers are closed
    for recording in list(_unfinished):
        recording.finish_at_exit()
