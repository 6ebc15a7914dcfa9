"""What `gradience runs` says: a table of runs that fits the screen, and the whole of it for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from gradience_analysis.errors import InputError
from gradience_analysis.model import Block, Field, Fields, Note, Report, Section, Table, plural
from gradience_analysis.reports.format import clipped, duration, number
from gradience_analysis.runs.headline import by_weight, constant, headline, status_counts
from gradience_schema import Severity

SCHEMA: Final = "gradience.runs/v1"
_GAP: Final = 2
_LEAST: Final = 2
_BAD: Final = ("error", "no run_end")


def runs_report(
    table: Any,
    failures: Sequence[InputError],
    *,
    total: int,
    columns: Sequence[str] | None = None,
    where: str | None = None,
    sort: str | None = None,
    width: int,
) -> Report:
    """The runs, one row each.

    Args:
        table: The rows of `Runs.table()` to show, in order.
        failures: What could not be read.
        total: Runs there were before any was left out.
        columns: What to show, whatever the width; None for a choice that fits.
        where: The condition that chose them, if any.
        sort: The column they are in order of, if any: it is shown.
        width: Columns of the screen.
    """
    verdict = _verdict(table, failures, total, where)
    blocks: list[Block] = []
    if table.num_rows and columns is not None:
        blocks = [_rows(table, columns)]
    elif table.num_rows:
        blocks = list(_chosen(table, sort, width))
    sections = tuple(Section("", (block,)) for block in blocks)
    return Report("runs", plural(total, "run"), verdict, sections, _data(table, failures, total, columns, verdict))


def runs_csv(table: Any, columns: Sequence[str] | None = None) -> str:
    """The rows as CSV with a header: numbers in full, an absent value as nothing between two commas."""
    names = list(columns) if columns is not None else table.column_names
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in table.select(list(dict.fromkeys(names))).to_pylist():
        writer.writerow([_plain(row[name]) for name in names])
    return text.getvalue()


def _verdict(table: Any, failures: Sequence[InputError], total: int, where: str | None) -> Note:
    shown = table.num_rows
    if not shown:
        text = f"None of {plural(total, 'run')} matches." if where else f"{plural(total, 'run')}, none shown."
        return Note(Severity.INFO, text)
    statuses = status_counts(table)
    words = ", ".join(f"{count:,} {name}" for name, count in statuses.items())
    text = f"{plural(shown, 'run')}: {words}" if shown == total else f"{shown:,} of {plural(total, 'run')}: {words}"
    text += f"; {plural(len(failures), 'path')} not read." if failures else "."
    loud = bool(failures) or any(statuses.get(name) for name in _BAD)
    return Note(Severity.WARNING if loud else Severity.INFO, text)


def _same(table: Any) -> list[str]:
    """What all runs have in common, of the best known settings; nothing to say of a single run."""
    return [f"{name} {_cell(name, table[name][0].as_py())}" for name in constant(table)] if table.num_rows > 1 else []


def _chosen(table: Any, sort: str | None, width: int) -> Iterator[Block]:
    """What all runs have in common, the columns there is room for, and the names of those there was none for."""
    same = _same(table)
    if same:
        yield Fields((Field("All of them", " · ".join(same)),))
    names = headline(table)
    if sort is not None and sort not in names:
        names.insert(1, sort)
    shown = _fitting(table, names, sort, width)
    yield _rows(table, shown)
    left_out = [name for name in names if name not in shown]
    if left_out:
        yield Fields((Field("Not shown", f"{', '.join(left_out)} (--columns, --json)"),))


def _fitting(table: Any, names: Sequence[str], sort: str | None, width: int) -> list[str]:
    """As many columns as there is room for, those that matter most; in the order of `names`."""
    kept: list[str] = []
    room = width
    first = ["name"] if sort is None else ["name", sort]
    for name in dict.fromkeys([*first, *by_weight(table, names)]):
        room -= _GAP + max([len(name), *(len(_cell(name, value)) for value in table[name].to_pylist())])
        if room < 0 and len(kept) >= _LEAST:
            break
        kept.append(name)
    return [name for name in names if name in kept]


def _rows(table: Any, names: Sequence[str]) -> Table:
    rows = table.select(list(dict.fromkeys(names))).to_pylist()
    cells = tuple(tuple(_cell(name, row[name]) for name in names) for row in rows)
    texts = {name for name in names if any(isinstance(row[name], str) for row in rows)}
    return Table(tuple(names), cells, frozenset(set(names) - texts))


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "duration_s":
        return duration(value)
    if isinstance(value, int | float):
        return number(value)
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else clipped(str(value))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return repr(value)
    return value.isoformat() if isinstance(value, datetime) else value


def _data(
    table: Any, failures: Sequence[InputError], total: int, columns: Sequence[str] | None, verdict: Note
) -> dict[str, Any]:
    names = list(columns) if columns is not None else table.column_names
    rows: list[Mapping[str, Any]] = table.select(list(dict.fromkeys(names))).to_pylist()
    return {
        "schema": SCHEMA,
        "verdict": {"severity": str(verdict.severity), "text": verdict.text},
        "total": total,
        "columns": list(names),
        "runs": [
            {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
            for row in rows
        ],
        "failures": [{"path": error.path, "message": str(error)} for error in failures],
    }
