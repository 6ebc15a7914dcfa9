"""Recognises training logs that are not telemetry/v1, so that the message can name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

RE_RECORD = (
    "This version reads telemetry/v1 only. Record the next run in it with "
    "`Trainer(..., callbacks=[GradienceCallback()])`, or write these numbers with `TelemetryWriter`."
)
HEAD_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Layout:
    """A foreign layout: its name in words, and the test that recognises one record of it."""

    name: str
    matches: Callable[[Mapping[str, Any]], bool]


def _early_nested(record: Mapping[str, Any]) -> bool:
    return {"timestamp", "event", "data"} <= record.keys() and isinstance(record["data"], dict)


def _early_flat(record: Mapping[str, Any]) -> bool:
    return "event" in record and "step" in record and not {"schema", "run_id"} & record.keys()


def _trainer_state(record: Mapping[str, Any]) -> bool:
    return isinstance(record.get("log_history"), list)


def _llama_factory(record: Mapping[str, Any]) -> bool:
    return {"current_steps", "total_steps"} <= record.keys()


LAYOUTS = (
    Layout("an early Gradience log (records with timestamp, event and data)", _early_nested),
    Layout("an early Gradience log (records such as event: telemetry, without schema and run_id)", _early_flat),
    Layout("a Hugging Face trainer_state.json", _trainer_state),
    Layout("a LLaMA-Factory trainer_log.jsonl", _llama_factory),
)


def layout_of(record: Mapping[str, Any]) -> str | None:
    """Name of the foreign layout that a record without a schema id belongs to, or None."""
    return next((layout.name for layout in LAYOUTS if layout.matches(record)), None)


def layout_of_head(head: bytes) -> str | None:
    """The same for a file that is one JSON document over many lines, from its first bytes."""
    is_state = head.lstrip().startswith(b"{") and b'"log_history"' in head and b'"global_step"' in head
    return LAYOUTS[2].name if is_state else None
