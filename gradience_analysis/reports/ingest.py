"""What `gradience ingest` says about a store that it brought up to date."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gradience_analysis.model import Field, Fields, Note, Notes, Report, Section, plural
from gradience_analysis.reports.format import clipped
from gradience_analysis.store.outcome import Ingested
from gradience_schema import Severity

SCHEMA = "gradience.ingest/v1"
_SHOWN = 20


def ingest_report(done: Ingested, *, list_unread: bool = True) -> Report:
    """What was read, what stayed, and what somebody should know of.

    Args:
        done: What the ingest did.
        list_unread: Name what could not be read in a section too; not wanted where stderr has just said it.
    """
    verdict = _verdict(done)
    blocks = (Fields(tuple(_fields(done))), *((Notes(notes),) if (notes := tuple(_notes(done, list_unread))) else ()))
    return Report("ingest", done.store, verdict, (Section("", blocks),), _data(done, verdict))


def _verdict(done: Ingested) -> Note:
    holds = f"The store holds {plural(done.runs, 'run')}"
    text = f"{holds}; {plural(done.read, 'file')} read, {done.written} written."
    if done.unread or done.lost:
        faults = [f"{plural(len(done.unread), 'file')} could not be read"] if done.unread else []
        faults += [f"rows of {plural(len(done.lost), 'file')} are lost"] if done.lost else []
        return Note(Severity.ERROR, f"{text} {' and '.join(faults).capitalize()}.")
    if done.damaged or done.files_refusing or done.files_without_events:
        return Note(Severity.WARNING, text)
    return Note(Severity.INFO, text if done.written else f"{holds}; nothing has changed.")


def _fields(done: Ingested) -> Iterator[Field]:
    counts = (
        ("new", len(done.new)),
        ("changed", len(done.changed)),
        ("read again", len(done.again)),
        ("moved", len(done.moved)),
        ("unchanged", len(done.unchanged)),
        ("gone", len(done.gone)),
        ("dropped", len(done.pruned)),
        ("not read", len(done.unread)),
    )
    yield Field("Files", ", ".join(f"{name} {number:,}" for name, number in counts if number) or "none")
    if done.read:
        rows = ", ".join(f"{name} {number:,}" for name, number in done.rows.items() if number)
        yield Field("Rows read", rows or "none")
    if done.written:
        yield Field("Written", f"{plural(done.written, 'Parquet file')} in {done.store}")


def _notes(done: Ingested, list_unread: bool) -> Iterator[Note]:
    refused = done.rows["bad_lines"]
    if list_unread and done.unread:
        yield _note(Severity.ERROR, "could not be read", [str(error) for error in done.unread])
    if done.lost:
        text = "gone, and rows of it were in a file of the store that is damaged: they are lost"
        yield _note(Severity.ERROR, text, done.lost)
    if done.damaged:
        text = "of the store was damaged, missing or no part of it; set aside, and made anew from the JSONL"
        yield _note(Severity.WARNING, text, done.damaged)
    if done.files_refusing:
        text = f"with {plural(refused, 'refused line')} in all, kept in bad_lines (see gradience validate)"
        yield _note(Severity.WARNING, text, done.files_refusing)
    if done.files_without_events:
        yield _note(Severity.WARNING, "without a single event", done.files_without_events)
    if done.gone:
        yield _note(Severity.INFO, "no longer there; its rows are kept (--prune drops them)", done.gone)


def _note(severity: Severity, text: str, names: Sequence[str]) -> Note:
    details = [clipped(name) for name in names[:_SHOWN]]
    if len(names) > _SHOWN:
        details.append(f"and {len(names) - _SHOWN:,} more")
    return Note(severity, f"{plural(len(names), 'file')} {text}", tuple(details))


def _data(done: Ingested, verdict: Note) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "verdict": {"severity": str(verdict.severity), "text": verdict.text},
        "store": done.store,
        "runs": done.runs,
        "written": done.written,
        "rows": dict(sorted(done.rows.items())),
        "new": done.new,
        "changed": done.changed,
        "again": done.again,
        "moved": [{"path": path, "from": old} for path, old in done.moved],
        "unchanged": len(done.unchanged),
        "gone": done.gone,
        "pruned": done.pruned,
        "unread": [{"path": error.path, "message": error.message, "remedy": error.remedy} for error in done.unread],
        "damaged": done.damaged,
        "lost": done.lost,
        "files_refusing": done.files_refusing,
        "files_without_events": done.files_without_events,
    }
