"""Writes telemetry/v1 beside a training run, and never stops it.

One call is one event, one JSON line, one ``write``. What cannot be written is kept and tried again; what is lost is
counted.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from gradience_emit import origin
from gradience_emit.boundary import attempt, never_raises
from gradience_emit.record import MAX_LINE_BYTES, RecordEncoder
from gradience_emit.redact import Redactor, TextViolationError, redact_secrets
from gradience_emit.segments import find_segments
from gradience_emit.spool import Outage, Spool

__all__ = ["MAX_LINE_BYTES", "TelemetryWriter", "describe_exception"]

_RUN_ID_LIMIT: Final = 4096
_logger = logging.getLogger("gradience_emit")
_writers: set[TelemetryWriter] = set()
"""Every writer that is not closed: what waits in one that was forgotten is still written at exit."""


class TelemetryWriter:
    """Appends the events of one run to a segment of its own.

    The file at ``path`` is never truncated and never shared: when it already holds events, or another process is
    writing it, the next free name beside it is used (``run.1.jsonl``, …) and `path` says which.

    No method raises because of the disk, the payload or a bug in here: the first fault warns through the logger
    ``gradience_emit``, every lost event is counted, and training goes on.

    Args:
        path: where to write, e.g. ``run.jsonl``; folders are created.
        run_id: an identifier of the run; a new UUID by default. Give the earlier segment's id to continue a run.
        max_str_len: longest string written as it is, in characters.
        allow_text: write longer strings too. Typed secrets and personal data are replaced in any case.
        on_text_violation: ``"redact"`` (default), or ``"raise"`` to get a `TextViolationError` at the call.
        if_exists: ``"segment"`` (default) starts a new segment beside an existing file; ``"append"`` continues the file
            itself, with its run id and numbering, when nobody else is writing it.
        sync_every_s: seconds of events that an operating-system crash may cost at most.
        sync_every_bytes: the same in bytes.
        ring_size: events kept in memory while the disk refuses.
        retry_every_s: seconds between attempts while it does.

    Attributes:
        run_id: the run's identifier.

    Raises:
        ValueError: an option is out of range. (Only here, before training; a bad path is not an error but an outage.)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        run_id: str | None = None,
        *,
        max_str_len: int = 256,
        allow_text: bool = False,
        on_text_violation: Literal["redact", "raise"] = "redact",
        if_exists: Literal["segment", "append"] = "segment",
        sync_every_s: float = 5.0,
        sync_every_bytes: int = 1 << 20,
        ring_size: int = 1000,
        retry_every_s: float = 5.0,
    ) -> None:
        if if_exists not in {"segment", "append"}:
            raise ValueError(f'if_exists must be "segment" or "append", not {if_exists!r}')
        if ring_size < 1 or sync_every_bytes < 1 or not sync_every_s > 0 or not retry_every_s >= 0:
            raise ValueError(
                "ring_size, sync_every_bytes and sync_every_s must be positive, retry_every_s not negative"
            )
        if run_id is not None:
            run_id = _clean_run_id(run_id)
        self._redactor = Redactor(max_str_len, allow_text=allow_text, on_text_violation=on_text_violation)
        self._lock = threading.RLock()
        self._base = Path(path)
        self._spool_options: dict[str, Any] = {
            "sync_every_s": sync_every_s,
            "sync_every_bytes": sync_every_bytes,
            "ring_size": ring_size,
            "retry_every_s": retry_every_s,
        }
        self._spool = Spool(self._base, append=if_exists == "append", run_id=run_id, **self._spool_options)
        segment = self._spool.segment
        adopted = segment.run_id if segment is not None else None
        self.run_id = run_id or adopted or str(uuid.uuid4())
        self._encoder = RecordEncoder(self.run_id, segment.next_seq if segment is not None else 0, self._redactor)
        self._reported_dropped = 0
        self._lost = 0
        self._faults = 0
        self._started: dict[str, Any] | None = None
        self._ended = segment is not None and segment.ended
        self._closed = False
        self._forked = False
        _writers.add(self)

    @property
    def path(self) -> Path:
        """The segment that is (or, while the disk refuses, will be) written."""
        return self._spool.path

    @property
    def dropped(self) -> int:
        """Events lost so far."""
        return self._spool.dropped + self._lost

    @property
    def faults(self) -> int:
        """Faults survived so far, inside the emitter and, for the callback, inside the callback."""
        return self._faults + self._spool.sync_faults

    @property
    def ended(self) -> bool:
        """Whether ``run_end`` was written."""
        return self._ended

    def run_start(self, /, config: object, meta: Mapping[str, Any] | None = None) -> None:
        """Open the run: its configuration (a `ConfigSnapshot` or a mapping) and its surroundings.

        To the surroundings are added ``host``, ``boot_id``, ``pid``, ``pid_start`` and ``pid_namespace``, as far as
        they are known and not given: by them a reader on the same machine sees whether this process still lives. For a
        run that continues an earlier segment of the same path, ``segment`` and ``parent_segment`` are added too.
        """
        surroundings = attempt(lambda: dict(meta or {}), lambda _: {"meta": meta})
        writer = attempt(lambda: {**origin.machine(), **origin.process()}, lambda _: {})
        self._started = {"config": _as_dict(config), "meta": {**writer, **surroundings, **self._lineage()}}
        self._emit("run_start", None, self._started)

    def train_step(self, /, step: int, *, loss: Any = None, lr: Any = None, **extras: Any) -> None:
        """One logged training step: ``loss`` (mean since the last log), ``lr`` (one, or one a parameter group)."""
        if loss is not None:
            extras = {"loss": loss, "lr": lr, **extras} if lr is not None else {"loss": loss, **extras}
        elif lr is not None:
            extras = {"lr": lr, **extras}
        self._emit("train_step", step, extras)

    def eval(self, /, step: int | None, *, split: str, metrics: Mapping[str, Any], **extras: Any) -> None:
        """One evaluation of ``split`` (``train``, ``val``, ``test``, or a name of yours)."""
        self._emit("eval", step, {"split": split, "metrics": metrics, **extras})

    def metrics(self, /, step: int | None, *, kind: str, metrics: Mapping[str, Any], **extras: Any) -> None:
        """Measurements of any other kind: ``throughput``, ``memory``, ``lora_audit`` or your own."""
        self._emit("metrics", step, {"kind": kind, "metrics": metrics, **extras})

    def alert(
        self,
        *,
        severity: str,
        code: str,
        message: str,
        step: int | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        """Something a person should know; ``error`` and ``critical`` are put on the disk at once."""
        payload: dict[str, Any] = {"severity": severity, "code": code, "message": message}
        if context is not None:
            payload["context"] = context
        self._emit("alert", step, payload)

    def recommendation(self, /, recommendations: Iterable[object], *, step: int | None = None, **extras: Any) -> None:
        """Hypotheses to test, each a `Recommendation` or a mapping."""
        items = attempt(lambda: [_as_dict(item) for item in recommendations], lambda _: recommendations)
        self._emit("recommendation", step, {"recommendations": items, **extras})

    def run_end(
        self, /, *, status: str = "ok", reason: str | None = None, step: int | None = None, **extras: Any
    ) -> None:
        """Close the run as ``ok``, ``aborted`` or ``error``. Written once; a second call is ignored with a warning.

        Evaluations and metrics of the finished run may still follow; `close` releases the file.
        """
        with self._lock:
            if self._ended and not self._forked:
                _logger.warning("run_end was already written to %s; the second one is ignored", self.path)
                return
            payload: dict[str, Any] = {"status": status, **({} if reason is None else {"reason": reason}), **extras}
            self._emit("run_end", step, payload)
            self._ended = True
            self._finish()  # what waits must not wait for a close that may never come

    def log(self, event: str, /, step: int | None = None, **payload: Any) -> None:
        """Any event, known or of your own; keys that the envelope uses are kept apart as ``x_<key>``."""
        if _is_run_end(event):
            self.run_end(step=step, **payload)
        else:
            self._emit(event, step, payload)

    def close(self) -> None:
        """Write what still waits, put it on the disk and release the file. Later events are counted as lost."""
        with self._lock:
            if self._closed:
                return
            if not self._forked:  # in a forked child the file and what waits belong to the parent
                self._finish()
            self._spool.close()
            self._closed = True
        _writers.discard(self)

    @never_raises
    def _finish(self) -> None:
        outage = self._spool.flush()
        if outage is not None:
            self._announce(outage)
            self._spool.flush()

    def report_fault(self, fault: Exception, where: str) -> None:
        """Count an internal fault; the first is logged with its traceback. For use by the callback's boundary too."""
        self._faults += 1
        if self._faults == 1:
            _logger.warning("telemetry fault in %s; training goes on (reported once)", where, exc_info=fault)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if not self._ended and not self._forked and (self._encoder.seq or error is not None):
            if error is None:
                self.run_end(status="ok")
            else:
                end = describe_exception(error)
                self.run_end(status=end["status"], reason=end["reason"])
        self.close()

    @never_raises
    def _emit(self, event: object, step: object, payload: Mapping[str, Any]) -> None:
        with self._lock:
            if self._closed:
                self._lose_after_close(event)
                return
            if self._forked:
                self._continue_in_child()
            is_safe = False
            try:
                is_end = type(event) is str and event == "run_end"
                counters = self._counters(is_end=is_end) if self._lost or self._spool.dropped or is_end else None
                line, important = self._encoder.encode(event, step, payload, counters)
                outage = self._spool.deliver(line, important=important)
                is_safe = True
            except TextViolationError:
                is_safe = True  # refused at the caller's wish, and the caller is told: not a loss
                raise
            finally:
                if not is_safe:
                    self._lost += 1
            if outage is not None:
                self._announce(outage)

    def _counters(self, *, is_end: bool) -> dict[str, int]:
        """The loss and fault counters, when they changed and at the end of the run."""
        dropped = self.dropped
        counters: dict[str, int] = {}
        if dropped and (dropped != self._reported_dropped or is_end):
            counters["dropped_events"] = self._reported_dropped = dropped
        if self.faults and is_end:
            counters["telemetry_faults"] = self.faults
        return counters

    def _announce(self, outage: Outage) -> None:
        _logger.warning(
            "telemetry is written to %s again after %.1f s: %d events came late, %d are lost",
            self.path,
            outage.seconds,
            outage.delayed,
            outage.lost,
        )
        self.alert(
            severity="warning",
            code="telemetry_gap",
            message=f"telemetry could not be written for {outage.seconds:.1f} s ({outage.reason}): "
            f"{outage.delayed} events came late, {outage.lost} are lost",
            context={"delayed": outage.delayed, "lost": outage.lost, "seconds": round(outage.seconds, 3)},
        )

    def _lineage(self) -> dict[str, Any]:
        """``segment`` and ``parent_segment`` when earlier segments of this path belong to the same run."""
        earlier = [head for head in find_segments(self._base) if head.run_id == self.run_id and head.path != self.path]
        if not earlier:
            return {}
        parent = max(head.segment for head in earlier)
        return {"segment": parent + 1, "parent_segment": parent}

    def _lose_after_close(self, event: object) -> None:
        self._lost += 1
        if self._lost == 1:
            _logger.warning("telemetry came after the writer of %s was closed (%s) and is lost", self.path, type(event))

    def _continue_in_child(self) -> None:
        """In a forked process: leave the parent's file alone and go on in a segment of this process's own."""
        self._forked = False
        self._spool = Spool(self._base, append=False, run_id=self.run_id, **self._spool_options)
        self._encoder = RecordEncoder(self.run_id, 0, self._redactor)
        self._reported_dropped = self._lost = self._faults = 0
        self._ended = False
        if self._started is not None:
            start = dict(self._started)
            start["meta"] = {**start["meta"], **origin.process(), **self._lineage(), "forked": True}
            self._emit("run_start", None, start)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # another thread of the parent may have held it
        self._spool.release()  # a child that kept the descriptor would keep the lock when the parent is gone
        self._forked = True


_REASON_LIMIT: Final = 200


def describe_exception(error: BaseException) -> dict[str, str]:
    """``status`` and ``reason`` of a ``run_end`` for a run that an exception ended: its type and its redacted text."""
    text = _own_text(error)
    name = type(error).__name__
    status = "aborted" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "error"
    if len(text) > _REASON_LIMIT:
        text = f"[REDACTED {len(text)} chars]"
    return {"status": status, "reason": f"{name}: {redact_secrets(text)}" if text else name}


def _own_text(error: BaseException) -> str:
    """The exception's own text; empty when it has none or cannot give it."""
    return attempt(lambda: str(error), lambda _: "")


def _clean_run_id(run_id: str) -> str:
    """The run id in UTF-8 and without secrets; its length is the caller's affair, within reason."""
    if not 0 < len(run_id) <= _RUN_ID_LIMIT:
        raise ValueError(f"run_id must have 1 to {_RUN_ID_LIMIT} characters, not {len(run_id)}")
    return redact_secrets(run_id.encode("utf-8", "replace").decode("utf-8"))


def _is_run_end(event: object) -> bool:
    return issubclass(type(event), str) and event == "run_end"  # isinstance asks the object, and it may fail


def _as_dict(item: Any) -> object:
    """``item.to_dict()`` where there is one that works; else the item, which the encoder takes as it is."""
    return attempt(lambda: item.to_dict() if callable(getattr(item, "to_dict", None)) else item, lambda _: item)


@atexit.register
def _close_all() -> None:
    for writer in list(_writers):
        writer.close()


def _mark_forked() -> None:
    for writer in list(_writers):
        writer._after_fork()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - this module's own class


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)
