"""Hugging Face `trainer_state.json`: written by transformers, and with further keys by TRL and Axolotl."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from gradience_analysis.errors import InputError
from gradience_analysis.importers.rows.document import read_document
from gradience_analysis.importers.rows.stream import Place, RunStream
from gradience_analysis.importers.rows.trainer import Made, eval_set_names, hides_nonfinite_loss, read_row
from gradience_analysis.importers.rows.values import as_step, is_number, read_strings
from gradience_analysis.model import Event, Issue
from gradience_schema import Severity

_LOG_HISTORY = re.compile(rb'"log_history"\s*:\s*[\[n]')
_ORDINARY = frozenset({"nonfinite_token"})
_SCHEDULE = ("logging_steps", "eval_steps", "save_steps")
_OUTCOME = (
    *("epoch", "global_step", "total_flos", "num_input_tokens_seen"),
    *("best_metric", "best_global_step", "best_model_checkpoint", "trial_name"),
)
_MAX_TRIAL = 100
_MAX_TEXT = 1000
HIDDEN_LOSS = (
    "loss is 0.0 while grad_norm is not finite: logging_nan_inf_filter hid a loss that was NaN or infinite. "
    "It is read as NaN; the number that was logged is kept as logged_loss. Train with logging_nan_inf_filter=False."
)


class TrainerState:
    """Reads `log_history` and the few facts beside it. The file holds no times, model, adapter or optimizer."""

    name = "hf-trainer-state"
    title = "a Hugging Face trainer_state.json"

    def sniff(self, head: bytes, path: Path) -> bool:  # noqa: ARG002
        """See `Importer`: one JSON object with a `log_history`."""
        return head.lstrip().startswith(b"{") and _LOG_HISTORY.search(head) is not None

    def read(self, path: Path) -> Iterator[Event | Issue]:
        """See `Importer`; `Event.line` is the 1-based place of the row in `log_history`."""
        decoded = read_document(path)
        state = cast("object", decoded.value)
        if not isinstance(state, dict):
            raise InputError(str(path), "is no trainer_state.json: it holds no JSON object.")
        state = cast("dict[str, Any]", state)
        history = state.get("log_history")
        if not isinstance(history, list):
            raise InputError(str(path), "is no trainer_state.json: it has no list log_history.")
        rows = cast("list[Any]", history)
        stream = RunStream(path, source_format=self.name, framework="huggingface")
        yield from stream.begin(_config(state), {"trainer_state": _outcome(state)})
        for item in decoded.tolerated:
            if item.code not in _ORDINARY:
                yield stream.issue(item.code, Severity.WARNING, item.message, pointer=item.pointer)
        if not rows:
            yield stream.issue("no_rows", Severity.WARNING, "log_history is empty: nothing was logged.")
        yield from _events(stream, rows, planned=_positive(state.get("max_steps")))


def read_logged_row(
    stream: RunStream, row: Mapping[str, Any], at: Place, sets: frozenset[str]
) -> Iterator[Event | Issue]:
    """The events of one row that the trainer logged, with what is to be said about it."""
    step, fields, issues = stream.row(row, at)
    made = list(read_row(fields, sets))
    yield from stream.onward(step, at, trains=any(one.event == "train_step" for one in made))
    yield from issues
    for one in made:
        yield from _event(stream, one, step, at)


def _events(stream: RunStream, rows: list[Any], *, planned: int | None) -> Iterator[Event | Issue]:
    """The events of `log_history`; the last summary of training is held against the steps that were planned."""
    known = [cast("dict[str, Any]", row) for row in rows if isinstance(row, dict)]
    sets = eval_set_names(known)
    last_summary = next((row for row in reversed(known) if _is_summary(row)), None)
    for number, row in enumerate(rows, 1):
        at = Place(number, pointer=f"/log_history/{number - 1}")
        if not isinstance(row, dict):
            message = f"row {number} of log_history is no object; it is left out."
            yield stream.issue("not_an_object", Severity.ERROR, message, at)
            continue
        row = cast("dict[str, Any]", row)
        yield from read_logged_row(stream, row, at, sets)
        if _is_summary(row) and not stream.ended:
            step = as_step(read_strings(row)[0].get("step"))
            yield from stream.event("run_end", None, _end(step, planned if row is last_summary else None), at)


def _event(stream: RunStream, made: Made, step: int | None, at: Place) -> Iterator[Event | Issue]:
    fields = made.fields
    if made.event == "train_step" and hides_nonfinite_loss(fields):
        fields = {**fields, "loss": math.nan, "logged_loss": fields["loss"]}
        yield stream.issue("hidden_nonfinite_loss", Severity.WARNING, HIDDEN_LOSS, at, "/loss")
    yield from stream.event(made.event, step, fields, at, made=made.made)


def _is_summary(row: Mapping[str, Any]) -> bool:
    return "train_loss" in row and "loss" not in row


def _end(step: int | None, planned: int | None) -> dict[str, Any]:
    """How training ended: the trainer writes its summary when its loop is left in an orderly way."""
    if planned is None or step is None or step >= planned:
        return {"status": "ok"} if step is None else {"status": "ok", "global_step": step}
    return {"status": "aborted", "reason": f"stopped early at step {step} of {planned}", "global_step": step}


def _config(state: Mapping[str, Any]) -> dict[str, Any]:
    epochs = state.get("num_train_epochs")
    training = {
        "batch_size": _positive(state.get("train_batch_size")),
        "max_steps": _positive(state.get("max_steps")),
        "epochs": epochs if is_number(epochs) else None,
    }
    schedule = {name: state[name] for name in _SCHEDULE if state.get(name) is not None and _is_small(state[name])}
    known = {name: value for name, value in training.items() if value is not None}
    return {"training": known | ({"extras": schedule} if schedule else {})}


def _outcome(state: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says about the state as a whole; no more of it than a record can hold."""
    found = {name: state[name] for name in _OUTCOME if state.get(name) is not None and _is_small(state[name])}
    trial = state.get("trial_params")
    if isinstance(trial, dict) and len(cast("dict[str, Any]", trial)) <= _MAX_TRIAL:
        found["trial_params"] = {
            name: value for name, value in cast("dict[str, Any]", trial).items() if _is_small(name) and _is_small(value)
        }
    return found


def _is_small(value: object) -> bool:
    if isinstance(value, str):
        return len(value) < _MAX_TEXT
    return value is None or isinstance(value, bool) or is_number(value)


def _positive(value: object) -> int | None:
    """A positive integer; the trainer writes 0 for what it does not know."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
