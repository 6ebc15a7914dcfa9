"""One event to one line: envelope, normalised payload, and what had to be changed to fit them together.

The payload never overrides the envelope: a key that the envelope uses, or that is there already, is written as
``x_<key>`` and ``renamed`` says so.
"""

from __future__ import annotations

import itertools
import operator
import time
from collections.abc import Mapping
from typing import Any, Final, cast

from gradience_emit.boundary import attempt
from gradience_emit.conform import conform, is_known, strict_fields
from gradience_emit.encode import Normaliser, Notes, dumps, pointer_to
from gradience_emit.redact import Redactor
from gradience_schema import SCHEMA_ID

__all__ = ["MAX_LINE_BYTES", "RESERVED", "RecordEncoder"]

MAX_LINE_BYTES: Final = 1 << 20
RESERVED: Final = frozenset(
    {
        *("schema", "ts", "run_id", "event", "step"),
        *("seq", "nonfinite", "renamed", "truncated", "dropped_events", "telemetry_faults"),
    }
)
_STEP_LIMIT: Final = 2**63
_NAMES_LIMIT: Final = 10_000
_NOTE_LIMIT: Final = 1000
"""Entries of ``nonfinite`` or ``renamed`` per event; a tensor's worth of NaN must not fill the line."""
_WORTH_CUTTING: Final = 64
"""Bytes below which leaving a field out gains nothing: the note on it would be as long."""
_NONE_STRICT: Final[frozenset[str]] = frozenset()
_URGENT_SEVERITIES: Final = frozenset({"error", "critical"})


class RecordEncoder:
    """Turns the events of one segment into lines; not for use by two threads at once.

    Args:
        run_id: written on every record.
        seq: number of the first record.
        redactor: what keeps secrets and text out.

    Attributes:
        seq: number of the next record.
    """

    def __init__(self, run_id: str, seq: int, redactor: Redactor) -> None:
        self.seq = seq
        self._run_id = run_id
        self._redactor = redactor
        self._normaliser = Normaliser(redactor)
        self._busy = False
        self._names: dict[str, tuple[str, bool]] = {}

    def encode(
        self, event: object, step: object, payload: Mapping[str, Any], counters: Mapping[str, int] | None
    ) -> tuple[bytes, bool]:
        """The line of one event, newline included, and whether it must be on the disk at once.

        Args:
            event: the event type; anything but a non-empty string is kept in the payload of an event ``unknown``.
            step: a non-negative integer; anything else is kept in the payload as ``x_step``.
            payload: the event's own fields, of any types.
            counters: envelope counters to add.

        Raises:
            TextViolationError: only under ``on_text_violation="raise"``.
        """
        if self._busy:  # the payload's own code, or a signal handler, logs an event while one is being encoded
            inner = RecordEncoder(self._run_id, self.seq, self._redactor)
            self.seq += 1
            return inner.encode(event, step, payload, counters)
        self._busy = True
        try:
            return self._encode(event, step, payload, counters)
        finally:
            self._busy = False

    def _encode(
        self, event: object, step: object, payload: Mapping[str, Any], counters: Mapping[str, int] | None
    ) -> tuple[bytes, bool]:
        normaliser = self._normaliser
        notes = normaliser.start()
        if type(event) is str and is_known(event):
            strict = strict_fields(event)
        else:
            event, payload = self._own_event(event, payload)
            strict = _NONE_STRICT
        member, names = normaliser.member, self._names
        fits = strict is not None
        tree: dict[str, Any] = {}
        for raw, value in payload.items():
            key, secret = names.get(raw) or self._name(raw)
            if key in RESERVED or key in tree:
                key = _free_key(tree, key, notes)
            if (type(value) is not float and type(value) is not int) or (strict and key in strict):
                fits = False
            tree[key] = normaliser.secret(key, value) if secret else member(key, value)
        number = step if type(step) is int and 0 <= step < _STEP_LIMIT else _step(step)
        if number is None and step is not None:
            key = _free_key(tree, "step", notes)
            tree[key] = member(key, step)
        if not fits:
            conform(event, tree, notes)
        seq, self.seq = self.seq, self.seq + 1
        record: dict[str, Any] = {
            "schema": SCHEMA_ID,
            "ts": time.time(),
            "run_id": self._run_id,
            "event": event,
            "step": number,
            **tree,
            "seq": seq,
        }
        if counters:
            record.update(counters)
        if notes.nonfinite or notes.renamed:
            _add_notes(record, notes)
        line = dumps(record)
        if len(line) >= MAX_LINE_BYTES:
            line = _shrunk(record, tree)
        return line + b"\n", not fits and _is_important(event, tree)

    def _own_event(self, event: object, payload: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """An event type of the user's own, redacted like any text; one that is no name moves into the payload."""
        if issubclass(type(event), str) and event:
            return self._normaliser.text(str.__str__(cast("str", event))), payload
        return "unknown", {**payload, "event": event}

    def _name(self, raw: object) -> tuple[str, bool]:
        """A top-level payload key as it is written, and whether it names a secret; remembered for plain strings."""
        name = self._normaliser.name(raw)
        if type(raw) is str and len(self._names) < _NAMES_LIMIT:
            self._names[raw] = name
        return name


def _is_important(event: str, tree: Mapping[str, Any]) -> bool:
    return (
        event in {"run_start", "run_end"}
        or (event == "alert" and tree.get("severity") in _URGENT_SEVERITIES)
        or (event == "metrics" and tree.get("kind") == "guard" and not _is_snapshot(tree.get("metrics")))
    )


def _is_snapshot(metrics: object) -> bool:
    """Whether the guard's record is of a snapshot: routine, and no reason to wait for the disk."""
    return isinstance(metrics, dict) and cast("dict[str, Any]", metrics).get("action") == "snapshot"


def _step(step: object) -> int | None:
    """``step`` as a non-negative 64-bit integer; None when it is not one."""
    if step is None:
        return None
    number = attempt(lambda: _index(step), lambda _: -1)
    return number if 0 <= number < _STEP_LIMIT else None


def _index(step: Any) -> int:
    """An integer of any type, ``3.0`` too; not one on an accelerator, for which training would have to wait."""
    if isinstance(step, bool) or str(getattr(step, "device", "cpu")) != "cpu":
        return -1
    if isinstance(step, float):
        return int(step) if step.is_integer() else -1
    return operator.index(step)


def _free_key(tree: Mapping[str, Any], key: str, notes: Notes) -> str:
    free = f"x_{key}"
    number = len(tree)
    while free in tree or free in RESERVED:
        number += 1
        free = f"x_{key}#{number}"
    notes.renamed[pointer_to([free])] = key
    return free


def _add_notes(record: dict[str, Any], notes: Notes) -> None:
    for name, changes in (("nonfinite", notes.nonfinite), ("renamed", notes.renamed)):
        if changes:
            record[name] = dict(itertools.islice(changes.items(), _NOTE_LIMIT))
        if len(changes) > _NOTE_LIMIT:
            record.setdefault("truncated", {})[f"/{name}"] = len(dumps(changes))


def _shrunk(record: dict[str, Any], payload: Mapping[str, Any]) -> bytes:
    """The line of ``record`` with its largest payload fields left out until it fits; ``truncated`` says which.

    The largest go first, as many at once as the excess asks for, so that the work stays a few times one encoding.
    """
    sizes = sorted(((len(dumps({"": value})) - 5, key) for key, value in payload.items()), reverse=True)
    truncated = record.setdefault("truncated", {})
    excess = len(dumps(record)) - MAX_LINE_BYTES + 1
    for size, key in sizes:
        if size < _WORTH_CUTTING:
            break
        value, pointer = record[key], pointer_to([key])
        record[key] = {} if isinstance(value, dict) else [] if isinstance(value, list) else f"[TRUNCATED {size} bytes]"
        truncated[pointer] = size
        excess -= size
        if excess <= 0:
            _forget_notes(record, truncated)
            line = dumps(record)
            excess = len(line) - MAX_LINE_BYTES + 1
            if excess <= 0:
                return line
    return _bare(record, payload)


def _forget_notes(record: dict[str, Any], truncated: Mapping[str, int]) -> None:
    """Drop the notes on what is inside a field that was left out."""
    for name in ("nonfinite", "renamed"):
        notes: dict[str, str] = record.get(name, {})
        for pointer in list(notes):
            top = pointer[: pointer.find("/", 1)] if "/" in pointer[1:] else ""
            if top in truncated:
                del notes[pointer]


def _bare(record: dict[str, Any], payload: Mapping[str, Any]) -> bytes:
    """The line of a record with too many fields: what the schema requires, then the first fields as far as they fit."""
    required: dict[str, Any] = {}
    conform(record["event"], required, Notes())
    kept = {key: value for key, value in record.items() if key in required or key not in payload}
    for name in ("nonfinite", "renamed", "truncated"):
        kept.pop(name, None)
    kept["x_payload"], kept["truncated"] = "", {"/x_payload": sum(len(dumps({key: payload[key]})) for key in payload)}
    room = MAX_LINE_BYTES - len(dumps(kept)) - 100
    fields = 0
    for key in payload:
        room -= len(dumps({key: record[key]}))
        if room < 0:
            break
        kept[key] = record[key]
        fields += 1
    kept["x_payload"] = f"[TRUNCATED: the first {fields} of {len(payload)} fields]"
    return dumps(kept)
