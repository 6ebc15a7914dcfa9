"""The first layout of this very format: `{"timestamp": ISO, "event": ..., "data": {...}}`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from gradience_analysis.importers.rows.lines import Record, looks_like, read_records
from gradience_analysis.importers.rows.snapshot import config_of
from gradience_analysis.importers.rows.stream import RunStream
from gradience_analysis.importers.rows.times import has_zone, unix_seconds
from gradience_analysis.importers.rows.trainer import split_evaluations, step_fields
from gradience_analysis.importers.rows.values import as_step
from gradience_analysis.model import Event, Issue
from gradience_schema import Severity

_STEPS = frozenset({"step_metrics", "training_step", "train_step"})
_EVALUATIONS = frozenset({"eval_metrics", "evaluation_complete", "eval"})
_END = "training_complete"
_MAX_PREAMBLE = 100


class EarlyNested:
    """Reads the layout of the first examples. Records of no known meaning are kept as `metrics` of their own kind."""

    name = "gradience-nested"
    title = "an early Gradience log (records with timestamp, event and data)"

    def sniff(self, head: bytes, path: Path) -> bool:  # noqa: ARG002
        """See `Importer`: a record with a timestamp, an event and an object data."""
        return looks_like(head, _matches)

    def read(self, path: Path) -> Iterator[Event | Issue]:
        """See `Importer`. The records before the first step tell the configuration."""
        stream = RunStream(path, source_format=self.name, framework=None, timed=True)
        clock = _Clock(stream)
        preamble: list[Record | Issue] | None = []
        for item in read_records(path, _matches, self.title):
            if preamble is not None:
                preamble.append(item)
                if len(preamble) < _MAX_PREAMBLE and not (isinstance(item, Record) and _is_about_a_step(item)):
                    continue
                yield from _opened(stream, clock, preamble)
                preamble = None
            else:
                yield from _item(stream, clock, item)
        if preamble is not None:
            yield from _opened(stream, clock, preamble)


class _Clock:
    """The times of the records; what is no time is reported once a record, a missing zone once a file."""

    def __init__(self, stream: RunStream) -> None:
        self._stream = stream
        self._zone_told = False

    def read(self, record: Record) -> tuple[float | None, list[Issue]]:
        raw = record.fields["timestamp"]
        ts = unix_seconds(raw)
        if ts is None:
            message = f"timestamp is no time: {str(raw)[:80]!r}; that of the record before it is used."
            return None, [self._stream.issue("bad_timestamp", Severity.WARNING, message, record.at, "/timestamp")]
        if has_zone(raw) or self._zone_told:
            return ts, []
        self._zone_told = True
        message = "timestamp names no time zone; so may those after it. Read as UTC."
        return ts, [self._stream.issue("naive_timestamp", Severity.INFO, message, record.at, "/timestamp")]


def _matches(record: Mapping[str, Any]) -> bool:
    return (
        {"timestamp", "event", "data"} <= record.keys()
        and isinstance(record["data"], dict)
        and isinstance(record["event"], str)
    )


def _is_about_a_step(record: Record) -> bool:
    return "step" in record.fields["data"] or record.fields["event"] == _END


def _opened(stream: RunStream, clock: _Clock, preamble: Iterable[Record | Issue]) -> Iterator[Event | Issue]:
    """`run_start` from what the preamble tells, then the preamble itself."""
    records = [item for item in preamble if isinstance(item, Record)]
    if records:
        first = next((record for record in records if unix_seconds(record.fields["timestamp"]) is not None), records[0])
        ts = unix_seconds(first.fields["timestamp"])
        facts = [(record.fields["event"], record.fields["data"]) for record in records if not _is_about_a_step(record)]
        yield from stream.begin(config_of(facts), at=records[0].at, ts=ts)
    for item in preamble:
        yield from _item(stream, clock, item)


def _item(stream: RunStream, clock: _Clock, item: Record | Issue) -> Iterator[Event | Issue]:
    if isinstance(item, Issue):
        yield item
        return
    name: str = item.fields["event"]
    data: dict[str, Any] = {
        **{key: value for key, value in item.fields.items() if key not in {"timestamp", "event", "data"}},
        **item.fields["data"],
    }
    ts, issues = clock.read(item)
    # Only steps and evaluations must name a step; for the others none is no loss.
    step, fields = as_step(data.get("step")), data
    if name in _STEPS or name in _EVALUATIONS:
        step, fields, more = stream.row(data, item.at)
        issues += more
    elif step is not None:
        fields = {key: value for key, value in data.items() if key != "step"}
    if name in _STEPS:
        yield from stream.onward(step, item.at, trains=True, ts=ts)
    yield from issues
    if name in _STEPS:
        yield from stream.event("train_step", step, step_fields(fields), item.at, ts=ts)
    elif name in _EVALUATIONS:
        metrics, beside = _evaluation(fields)
        split = beside.pop("split") if isinstance(beside.get("split"), str) else "val"
        yield from stream.event("eval", step, beside, item.at, made={"split": split, "metrics": metrics}, ts=ts)
    elif name == _END and not stream.ended:
        yield from stream.event("run_end", step, fields, item.at, made={"status": "ok"}, ts=ts)
    else:
        yield from stream.event("metrics", step, {}, item.at, made={"kind": name, "metrics": fields}, ts=ts)


def _evaluation(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metrics of an evaluation, with `samples` as v1's `n`, and what stands beside them."""
    given = fields.get("eval_metrics")
    if isinstance(given, dict):
        metrics = dict(cast("dict[str, Any]", given))
        beside = {key: value for key, value in fields.items() if key != "eval_metrics"}
    else:
        found, beside = split_evaluations(fields)
        metrics = found.pop("val", {})
        for split, others in found.items():
            metrics |= {f"{split}_{key}": value for key, value in others.items()}
    if isinstance(metrics.get("samples"), int) and "n" not in metrics:
        metrics["n"] = metrics.pop("samples")
    return metrics, beside
