"""Where the tables of runs are kept: in memory, in a store on disk, or in several such places."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from gradience_analysis.runs.judging import Asked, judge
from gradience_analysis.runs.progress import Bar, ProgressOption
from gradience_analysis.runs.reading import of_runs
from gradience_analysis.store import Store
from gradience_analysis.store.contents import Finding
from gradience_analysis.tables.bundle import Tables
from gradience_analysis.tables.columns import TEXT
from gradience_analysis.tables.layout import SCHEMAS

Wanted: TypeAlias = "Mapping[str, Collection[str] | None]"
"""Which tables are wanted, and which of their columns; None for all of them."""
ALL: Final[Wanted] = dict.fromkeys(SCHEMAS)
PARTS: Final[Wanted] = {"parts": None}


class Holding(Protocol):
    """A place that holds runs."""

    def tables(self, wanted: Wanted, run_ids: Sequence[str] | None = None) -> Tables:
        """Tables of these runs, or of all; those that are not wanted are empty, but `parts` is always there."""
        ...

    def findings(self, run_ids: Sequence[str]) -> Mapping[str, Finding]:
        """How many findings each of these runs has, by run id."""
        ...


class InMemory:
    """Tables that were read from files.

    Args:
        tables: Everything that was read.
        workers: Processes to judge with; None for a choice.
        progress: As for `load_runs`.
    """

    def __init__(self, tables: Tables, *, workers: int | None = None, progress: ProgressOption = None) -> None:
        self._tables = tables
        self._workers = workers
        self._progress: ProgressOption = progress
        self._folder = Path.cwd()
        self._judged: dict[str, Finding] = {}

    def tables(self, wanted: Wanted, run_ids: Sequence[str] | None = None) -> Tables:
        """See `Holding`."""
        found = {name: narrow(getattr(self._tables, name), columns) for name, columns in {**wanted, **PARTS}.items()}
        chosen = dataclasses.replace(Tables.empty(), **found)
        return chosen if run_ids is None else of_runs(chosen, run_ids)

    def findings(self, run_ids: Sequence[str]) -> Mapping[str, Finding]:
        """Judged when first asked for, and kept."""
        missing = [run_id for run_id in run_ids if run_id not in self._judged]
        if missing:
            found = judge(self._asked(missing), self._workers, Bar("judging runs", self._progress))
            self._judged |= {finding.run_id: finding for finding in found}
        return {run_id: self._judged[run_id] for run_id in run_ids}

    def _asked(self, run_ids: Collection[str]) -> list[Asked]:
        sizes = {row["path"]: row["size"] for row in self._tables.files.to_pylist()}
        paths: dict[str, dict[str, None]] = {run_id: {} for run_id in run_ids}
        for row in self._tables.parts.select(["run_id", "path"]).to_pylist():
            if row["run_id"] in paths:
                paths[row["run_id"]][row["path"]] = None
        return [
            Asked(run_id, str(self._folder / next(iter(mine))), sum(sizes.get(path, 0) for path in mine))
            for run_id, mine in paths.items()
        ]


class Stored:
    """A store: of its tables, columns and runs only those are read that are asked for, when they are asked for.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def tables(self, wanted: Wanted, run_ids: Sequence[str] | None = None) -> Tables:
        """See `Holding`."""
        names = {**wanted, **PARTS}
        columns = {name: chosen for name, chosen in names.items() if chosen is not None}
        return self._store.read(run_ids=run_ids, tables=list(names), columns=columns)

    def findings(self, run_ids: Sequence[str]) -> Mapping[str, Finding]:
        """As they were made when the store was."""
        found = {row["run_id"]: Finding(**row) for row in self._store.findings(run_ids).to_pylist()}
        return {run_id: found.get(run_id) or _unknown(run_id) for run_id in run_ids}


class Joined:
    """Several places as one; a run that two of them hold is taken from the first."""

    def __init__(self, holdings: Sequence[Holding]) -> None:
        self._holdings = holdings
        self._owned: list[list[str]] = []
        seen: set[str] = set()
        for holding in holdings:
            mine = run_ids_of(holding)
            self._owned.append([run_id for run_id in mine if run_id not in seen])
            seen.update(mine)

    def tables(self, wanted: Wanted, run_ids: Sequence[str] | None = None) -> Tables:
        """See `Holding`."""
        shares = zip(self._holdings, self._shares(run_ids), strict=True)
        return Tables.concat([holding.tables(wanted, mine) for holding, mine in shares])

    def findings(self, run_ids: Sequence[str]) -> Mapping[str, Finding]:
        """Those of each place."""
        found: dict[str, Finding] = {}
        for holding, mine in zip(self._holdings, self._shares(run_ids), strict=True):
            found.update(holding.findings(mine))
        return found

    def _shares(self, run_ids: Sequence[str] | None) -> list[list[str]]:
        wanted = None if run_ids is None else set(run_ids)
        return [[run_id for run_id in mine if wanted is None or run_id in wanted] for mine in self._owned]


def narrow(table: Any, columns: Collection[str] | None) -> Any:
    """Some columns of a table, as far as it has them; the text beside a column comes with it."""
    if columns is None:
        return table
    return table.select([name for name in table.column_names if name in columns or name.removesuffix(TEXT) in columns])


def run_ids_of(holding: Holding) -> list[str]:
    """The runs in a place, in order of first appearance."""
    ids: list[str] = holding.tables(PARTS).parts["run_id"].unique().to_pylist()
    return ids


def _unknown(run_id: str) -> Finding:
    return Finding(run_id, None, None, None, None, 0, "the store has no findings of it.")
