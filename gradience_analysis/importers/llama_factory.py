"""LLaMA-Factory `trainer_log.jsonl`: as its `LogCallback` writes it and, under the same name, its v1 trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gradience_analysis.importers.hf_trainer_state import read_logged_row
from gradience_analysis.importers.rows.lines import looks_like, read_records
from gradience_analysis.importers.rows.stream import Place, RunStream
from gradience_analysis.importers.rows.trainer import split_evaluations, step_fields
from gradience_analysis.importers.rows.values import is_number
from gradience_analysis.model import Event, Issue

_EVALUATED = ("eval_loss", "predict_loss")


class LlamaFactory:
    """Reads both layouts, line by line. The file holds no times but the elapsed ones, no model and no adapter."""

    name = "llama-factory"
    title = "a LLaMA-Factory trainer_log.jsonl"

    def sniff(self, head: bytes, path: Path) -> bool:  # noqa: ARG002
        """See `Importer`: a record with current_steps and total_steps, or with step, total_steps and a loss."""
        return looks_like(head, _matches)

    def read(self, path: Path) -> Iterator[Event | Issue]:
        """See `Importer`. Files are appended to across reruns: `step` going back starts a segment."""
        stream: RunStream | None = None
        for record in read_records(path, _matches, self.title):
            if isinstance(record, Issue):
                yield record
                continue
            if stream is None:
                stream = RunStream(path, source_format=self.name, framework="llama-factory")
                yield from stream.begin(_config(record.fields), at=record.at)
            given = {name: value for name, value in record.fields.items() if value is not None}
            if "current_steps" in given:
                yield from _row(stream, given, record.at)
            else:
                given.pop("total_steps", None)
                yield from read_logged_row(stream, given, record.at, frozenset())


def _matches(record: Mapping[str, Any]) -> bool:
    if "total_steps" not in record or "event" in record:
        return False
    return "current_steps" in record or ("step" in record and not record.keys().isdisjoint({"loss", *_EVALUATED}))


def _row(stream: RunStream, given: Mapping[str, Any], at: Place) -> Iterator[Event | Issue]:
    """A row of `LogCallback`: a training step, an evaluation, the end of training, or the progress of a prediction.

    Its last row of training has an epoch, but no loss: it is made of the trainer's summary.
    """
    step, fields, issues = stream.row(given, at, step_name="current_steps")
    total = fields.pop("total_steps", None)
    evaluations, rest = split_evaluations(fields)
    trains = "loss" in rest
    yield from stream.onward(step, at, trains=trains)
    yield from issues
    speed = rest.pop("throughput", None) if is_number(rest.get("throughput")) else None
    named = _named(rest)
    if trains:
        yield from stream.event("train_step", step, named, at)
    for split, metrics in evaluations.items():
        beside = {"epoch": named["epoch"]} if trains and "epoch" in named else {} if trains else named
        yield from stream.event("eval", step, beside, at, made={"split": split, "metrics": metrics})
    if not trains and not evaluations:
        yield from stream.event("metrics", step, {}, at, made={"kind": "log", "metrics": named})
    if speed is not None:
        made = {"kind": "throughput", "metrics": {"tokens_per_s": speed}}
        yield from stream.event("metrics", step, {}, at, made=made)
    at_end = step is not None and is_number(total) and step >= total
    if at_end and not trains and not evaluations and "epoch" in rest and not stream.ended:
        yield from stream.event("run_end", None, {"status": "ok", "global_step": step}, at)


def _named(rest: Mapping[str, Any]) -> dict[str, Any]:
    named = step_fields(rest)
    if "total_tokens" in named and "tokens" not in named:
        named["tokens"] = named.pop("total_tokens")
    return named


def _config(first: Mapping[str, Any]) -> dict[str, Any]:
    total = first.get("total_steps")
    if isinstance(total, bool) or not isinstance(total, int) or total <= 0:
        return {}
    return {"training": {"max_steps": total}}
