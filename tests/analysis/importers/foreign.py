"""Foreign logs for the tests, and what importers make of them as plain v1 records."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gradience_analysis.importers import IMPORTERS, Importer, find_importer
from gradience_analysis.model import Event, Issue

FOLDER = Path(__file__).resolve().parents[3] / "fixtures" / "foreign"
LOGS = sorted(path for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".md")


def importer(name: str) -> Importer:
    """The importer of this package with a name."""
    return next(one for one in IMPORTERS if one.name == name)


def read(path: Path) -> tuple[list[Event], list[Issue]]:
    """What the importer that is found for a file gives: events and issues."""
    found = find_importer(path)
    assert found is not None, f"{path} is not recognised"
    items = list(found.read(path))
    return [item for item in items if isinstance(item, Event)], [item for item in items if isinstance(item, Issue)]


def codes(issues: Iterable[Issue], *, but: Iterable[str] = ("no_timestamps",)) -> list[str]:
    """Codes of the issues, without the one that every log without times has."""
    return [issue.code for issue in issues if issue.code not in set(but)]


def record(event: Event) -> dict[str, Any]:
    """An event as a v1 record: what a reader of the contract would see on a line."""
    marks: dict[str, str] = {}
    payload = {name: _strict(value, f"/{_escape(name)}", marks) for name, value in event.payload.items()}
    made = {
        "schema": "gradience.vnext.telemetry/v1",
        "ts": event.ts,
        "run_id": event.run_id,
        "event": event.event,
        "step": event.step,
        "seq": event.seq,
        **payload,
    }
    assert tuple(sorted(marks)) == event.nonfinite
    return made | {"nonfinite": marks} if marks else made


def of(events: Iterable[Event], name: str) -> list[Event]:
    """The events of one type."""
    return [event for event in events if event.event == name]


def series(events: Iterable[Event], name: str) -> list[tuple[int | None, Any]]:
    """(step, value) of the training steps that have a field."""
    return [(event.step, event.payload[name]) for event in of(events, "train_step") if name in event.payload]


def state(path: Path, rows: Iterable[Any], **fields: Any) -> Path:
    """A trainer_state.json with these rows."""
    path.write_text(json.dumps({"global_step": 9, "log_history": list(rows), **fields}), encoding="utf-8")
    return path


def jsonl(path: Path, rows: Iterable[Any]) -> Path:
    """A file of one JSON value, or one raw string, a line."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _strict(value: Any, pointer: str, marks: dict[str, str]) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        marks[pointer] = "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
        return None
    if isinstance(value, dict):
        return {name: _strict(item, f"{pointer}/{_escape(name)}", marks) for name, item in value.items()}
    if isinstance(value, list):
        return [_strict(item, f"{pointer}/{index}", marks) for index, item in enumerate(value)]
    return value


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
