"""The other early layout of this format: `{"event": "telemetry", "step": ..., "train_loss": ...}`, no schema id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gradience_analysis.importers.rows.lines import looks_like, read_records
from gradience_analysis.importers.rows.stream import Place, RunStream
from gradience_analysis.importers.rows.trainer import step_fields
from gradience_analysis.model import Event, Issue

_TELEMETRY = "telemetry"
_ROLLBACK = "rollback_success"
_SPECTRAL = "spectral_"


class EarlyFlat:
    """Reads the layout of the first guard. It has no times and no configuration, and never says that training ended."""

    name = "gradience-flat"
    title = "an early Gradience log (records such as event: telemetry, without schema and run_id)"

    def sniff(self, head: bytes, path: Path) -> bool:  # noqa: ARG002
        """See `Importer`: a record with an event and a step, without schema, run_id and data."""
        return looks_like(head, _matches)

    def read(self, path: Path) -> Iterator[Event | Issue]:
        """See `Importer`. A rollback becomes the alert GUARD_ROLLBACK, any other event metrics of its own kind."""
        stream: RunStream | None = None
        for record in read_records(path, _matches, self.title):
            if isinstance(record, Issue):
                yield record
                continue
            if stream is None:
                stream = RunStream(path, source_format=self.name, framework=None)
                yield from stream.begin({}, at=record.at)
            yield from _record(stream, record.fields, record.at)


def _matches(record: Mapping[str, Any]) -> bool:
    foreign = not {"schema", "run_id", "data"} & record.keys()
    return foreign and "step" in record and isinstance(record.get("event"), str)


def _record(stream: RunStream, record: Mapping[str, Any], at: Place) -> Iterator[Event | Issue]:
    name: str = record["event"]
    given = {key: value for key, value in record.items() if key != "event"}
    step, fields, issues = stream.row(given, at, numeric=name == _TELEMETRY)
    if name == _TELEMETRY:
        yield from stream.onward(step, at, trains=True)
    yield from issues
    if name == _TELEMETRY:
        spectral, training = _parted(fields)
        yield from stream.event("train_step", step, step_fields(training), at)
        if spectral:
            made = {"kind": "spectral", "metrics": spectral}
            yield from stream.event("metrics", step, {}, at, made=made)
    elif name == _ROLLBACK:
        made = {"severity": "warning", "code": "GUARD_ROLLBACK", "message": _why(fields), "context": dict(fields)}
        yield from stream.event("alert", step, {}, at, made=made)
    else:
        yield from stream.event("metrics", step, {}, at, made={"kind": name, "metrics": fields})


def _parted(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The spectral values under v1's names, and those of the training step, `train_loss` as `loss`."""
    spectral: dict[str, Any] = {}
    training: dict[str, Any] = {}
    for name, value in fields.items():
        if name == "risk_level" or (name.startswith(_SPECTRAL) and name != _SPECTRAL):
            spectral[name.removeprefix(_SPECTRAL)] = value
        elif name == "train_loss" and "loss" not in fields:
            training["loss"] = value
        else:
            training[name] = value
    return spectral, training


def _why(fields: Mapping[str, Any]) -> str:
    reason = fields.get("reason")
    return f"rolled back: {reason}" if isinstance(reason, str) and reason else "rolled back"
