"""Runs as a piece of HTML for a notebook: escaped, without script or style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any, Final

from gradience_analysis.model import plural
from gradience_analysis.runs.headline import constant, headline, status_counts

_ROWS: Final = 10
_COLUMNS: Final = 12
_LONGEST: Final = 60
_SIX: Final = 6


def runs_html(table: Any, failures: int) -> str:
    """A line that counts the runs by status, what they have in common, and the first of them."""
    shown = headline(table)[:_COLUMNS]
    same = [f"{escape(name)} {_cell(table[name][0].as_py())}" for name in constant(table)] if table.num_rows > 1 else []
    parts = [f"<p><b>{plural(table.num_rows, 'run')}</b>{_statuses(table)}"]
    if failures:
        parts.append(f" · {plural(failures, 'path')} not read (<code>.failures</code>)")
    if same:
        parts.append(f"<br>the same in all: {' · '.join(same)}")
    parts.append("</p>")
    if table.num_rows:
        parts.append(_table(shown, table.select(shown).slice(0, _ROWS).to_pylist()))
    rest = table.num_rows - _ROWS
    more = f"and {plural(rest, 'more run')}; " if rest > 0 else ""
    parts.append(f"<p>{more}{_hint(table, shown)}</p>")
    return f"<div>{''.join(parts)}</div>"


def _statuses(table: Any) -> str:
    return "".join(f" · {count:,} {escape(name)}" for name, count in status_counts(table).items())


def _hint(table: Any, shown: Sequence[str]) -> str:
    more = len(table.column_names) - len(shown)
    return f"<code>.runs</code> has {plural(more, 'more column')}" if more > 0 else "<code>.runs</code> has them all"


def _table(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(row[name])}</td>' for name in names)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.{_SIX}g}" if math.isfinite(value) else str(value)
    text = f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else str(value)
    return escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
