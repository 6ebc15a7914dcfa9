"""What reads JSON Lines into columns, each with the call its documentation shows, and what became of the values.

Every library is told the same thing where it can be told: one thread, one record a line. Where it can also be given the
columns, it stands here twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

Paths = Sequence[str]
COLUMNS: Final = {
    **dict.fromkeys(("schema", "run_id", "event", "split", "status"), "VARCHAR"),
    **dict.fromkeys(("ts", "loss", "lr", "grad_norm", "epoch"), "DOUBLE"),
    **dict.fromkeys(("step", "seq", "tokens"), "BIGINT"),
    **dict.fromkeys(("config", "meta", "metrics"), "JSON"),
}
"""Every key of the data, by the SQL type of its column."""
_NUMBERS: Final = ("ts", "loss", "lr", "grad_norm", "epoch")
_PAYLOAD: Final = frozenset(COLUMNS) - {"schema", "seq"}
_SHOWS: Final = {"missing field": "ts", "invalid UTF-8": "run_id"}


def floor(paths: Paths) -> int:
    """The bytes, and how many newlines are in them."""
    lines = 0
    for path in paths:
        with open(path, "rb") as file:  # noqa: PTH123
            while piece := file.read(1 << 20):
                lines += piece.count(b"\n")
    return lines


def orjson_lines(paths: Paths) -> int:
    """Each line decoded, and dropped: the reference that machines are compared by."""
    import orjson

    lines = 0
    for path in paths:
        with open(path, "rb") as file:  # noqa: PTH123
            for line in file:
                orjson.loads(line)
                lines += 1
    return lines


def orjson_columns(paths: Paths) -> tuple[Any, list[int]]:
    """Each line decoded, then a column for each key; lines it refuses are noted, and leave an empty row."""
    import orjson
    import pyarrow as pa

    records: list[Any] = []
    refused: list[int] = []
    for path in paths:
        with open(path, "rb") as file:  # noqa: PTH123
            for number, line in enumerate(file, 1):
                try:
                    records.append(orjson.loads(line))
                except orjson.JSONDecodeError:
                    records.append({})
                    refused.append(number)
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for record in records for name in record):
        values = [record.get(name) for record in records]
        if COLUMNS.get(name) == "JSON":
            values = [None if value is None else orjson.dumps(value).decode() for value in values]
        columns[name] = pa.array(values)
    return pa.table(columns), refused


def pandas_default(paths: Paths) -> Any:
    """`pandas.read_json` as it comes."""
    import pandas as pd

    frames = [pd.read_json(path, lines=True) for path in paths]
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)


def pandas_precise(paths: Paths) -> Any:
    """The same, told to keep the floats."""
    import pandas as pd

    frames = [pd.read_json(path, lines=True, precise_float=True) for path in paths]
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)


def pyarrow_json(paths: Paths) -> Any:
    """`pyarrow.json.read_json`."""
    import pyarrow as pa
    from pyarrow import json as reader

    options = reader.ReadOptions(use_threads=False)
    tables = [reader.read_json(path, read_options=options) for path in paths]
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="permissive")


def polars_inferred(paths: Paths) -> Any:
    """`polars.read_ndjson`, which looks at the first hundred lines."""
    import polars as pl

    return pl.read_ndjson(list(paths))


def polars_told(paths: Paths) -> Any:
    """The same with the columns given, nested values as text."""
    import polars as pl

    kinds: dict[str, Any] = {"VARCHAR": pl.String, "DOUBLE": pl.Float64, "BIGINT": pl.Int64, "JSON": pl.String}
    return pl.read_ndjson(list(paths), schema={name: kinds[kind] for name, kind in COLUMNS.items()})


def duckdb_inferred(paths: Paths) -> Any:
    """`read_json` of DuckDB into an Arrow table."""
    return _duckdb(paths, "")


def duckdb_looked(paths: Paths) -> Any:
    """The same, told to look at every line before it settles the columns."""
    return _duckdb(paths, ", sample_size=-1")


def duckdb_told(paths: Paths) -> Any:
    """The same with the columns given."""
    return _duckdb(paths, f", columns={COLUMNS!r}")


def duckdb_tolerant(paths: Paths) -> Any:
    """The same, told to go on after a bad line."""
    return _duckdb(paths, f", columns={COLUMNS!r}, ignore_errors=true")


def _duckdb(paths: Paths, more: str) -> Any:
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET threads=1")
    query = f"SELECT * FROM read_json({list(paths)!r}, format='newline_delimited'{more})"
    return connection.sql(query).to_arrow_table()


def ours(paths: Paths) -> Any:
    """Our typed tables, every bad line kept with its place."""
    import sys

    from gradience_analysis.tables.read_file import TableBuilder

    builder = TableBuilder(bad_lines=True, max_issues=sys.maxsize)
    for path in paths:
        builder.add(path)
    return builder.tables()


def ours_runs(paths: Paths) -> Any:
    """`load_runs`, and the frame of its steps."""
    return _load_runs(paths, 1)


def ours_processes(paths: Paths) -> Any:
    """The same with as many processes as there are processors."""
    return _load_runs(paths, None)


def _load_runs(paths: Paths, workers: int | None) -> Any:
    from gradience_analysis.runs import load_runs

    runs = load_runs(list(paths), workers=workers, progress=False)
    return runs.raw, runs.steps


@dataclass(frozen=True)
class Reader:
    """A contender.

    Attributes:
        title: What its row is called.
        read: Files to columns.
        table: What it gave to something with columns; None where it gives none.
    """

    title: str
    read: Callable[[Paths], Any]
    table: Callable[[Any], Any] | None = lambda result: result


OURS: Final = "ours"
READERS: Final[dict[str, Reader]] = {
    "floor": Reader("read bytes and count newlines (floor)", floor, None),
    "orjson": Reader("orjson.loads a line, nothing kept (reference)", orjson_lines, None),
    "orjson_columns": Reader("orjson.loads a line, to columns", orjson_columns, lambda result: result[0]),
    "pandas": Reader("pandas.read_json(lines=True)", pandas_default),
    "pandas_precise": Reader("pandas.read_json(lines=True, precise_float=True)", pandas_precise),
    "pyarrow": Reader("pyarrow.json", pyarrow_json),
    "polars": Reader("polars.read_ndjson, inferred", polars_inferred),
    "polars_told": Reader("polars.read_ndjson, columns given", polars_told),
    "duckdb": Reader("duckdb, inferred", duckdb_inferred),
    "duckdb_looked": Reader("duckdb, inferred from every line", duckdb_looked),
    "duckdb_told": Reader("duckdb, columns given", duckdb_told),
    OURS: Reader("**gradience, tables**", ours),
    "ours_runs": Reader("**gradience, load_runs(workers=1).steps**", ours_runs, lambda result: result[0]),
    "ours_processes": Reader("**gradience, load_runs().steps**", ours_processes, lambda result: result[0]),
}
TOLERANT: Final = {"duckdb_tolerant": Reader("duckdb, columns given, ignore_errors", duckdb_tolerant)}


def reported(result: Any) -> list[int] | None:
    """Lines that a result says something is wrong with; None when it has no place to say so."""
    from gradience_analysis.tables.bundle import Tables

    if isinstance(result, tuple):
        first, second = result
        return second if isinstance(second, list) else reported(first)
    return sorted(set(result.issues["line"].to_pylist())) if isinstance(result, Tables) else None


def faithfulness(reader: Reader, path: str) -> dict[str, Any]:
    """How many of the numbers of the `train_step` records of a sound file came out different, and which keys are gone.

    The oracle is `json.loads`.
    """
    truth = _records(path)
    table = reader.table(reader.read([path])) if reader.table else None
    if table is None:
        return {}
    rows = [row for row, record in enumerate(truth) if record["event"] == "train_step"]
    changed = 0
    for name in _NUMBERS:
        values = _column(table, name, len(truth))
        changed += sum(not _equal(values[row], truth[row][name]) for row in rows)
    there = _names(table)
    gone = [name for name in dict.fromkeys(name for record in truth for name in record) if name in _PAYLOAD - there]
    return {"changed": changed / (len(rows) * len(_NUMBERS)), "gone": gone}


def treatment(reader: Reader, path: str, sound: str, damaged: Mapping[int, str]) -> str:
    """What a reader makes of a file in which some lines are damaged, all in the same way, in a few words."""
    try:
        result = reader.read([path])
    except Exception:  # noqa: BLE001 (whatever a library raises is its answer)
        return "file fails"
    said = reported(result)
    if said is not None and set(said) & set(damaged):
        return found(said, damaged)
    table = reader.table(result) if reader.table else result
    truth = _records(sound)
    shows = _SHOWS.get(next(iter(damaged.values())), "loss")
    if _length(table) != len(truth):
        return f"{len(truth) - _length(table)} of {len(damaged)} rows missing, not said"
    try:
        values = _column(table, shows, len(truth))
    except UnicodeDecodeError:
        return f"{shows}: bytes that cannot be read, not said"
    kinds = sorted({_kind(values[number - 1]) for number in damaged})
    words = f"{shows}: {' or '.join(kinds)}, not said"
    sound_rows = [row for row, record in enumerate(truth) if shows in record and row + 1 not in damaged]
    if isinstance(truth[sound_rows[0]][shows], float) and all(_kind(values[row]) == "text" for row in sound_rows):
        words += "; so the whole column is text"
    return words


def found(said: Sequence[int], damaged: Mapping[int, str]) -> str:
    """How many of the damaged lines were reported, and how many others."""
    others = len(set(said) - set(damaged))
    words = f"{len(set(said) & set(damaged)):,} of {len(damaged):,} reported"
    return f"{words}, and {others:,} sound ones" if others else words


def _records(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return "text"
    return "NaN" if isinstance(value, float) and math.isnan(value) else "a number"


def _equal(value: object, truth: object) -> bool:
    # To the last bit; pandas makes times of what it takes for times.
    return type(value) in {int, float} and value == truth


def _names(table: Any) -> set[str]:
    """The keys that have a place in a result."""
    from gradience_analysis.tables.bundle import Tables

    if isinstance(table, Tables):
        inside = {name for text in table.records["payload"].to_pylist() for name in json.loads(text)}
        nested = {"split", "metrics"} if table.evals.num_rows else set[str]()
        return {*table.steps.column_names, *table.records.column_names, *inside, *nested}
    return set(table.column_names if hasattr(table, "column_names") else table.columns)


def _length(table: Any) -> int:
    return table.num_rows if hasattr(table, "num_rows") else len(table)


def _column(table: Any, name: str, lines: int) -> list[Any]:
    """The values of a column, the nth being that of the nth line."""
    from gradience_analysis.tables.bundle import Tables

    if isinstance(table, Tables):
        values: list[Any] = [None] * lines
        for line, value in zip(table.steps["line"].to_pylist(), table.steps[name].to_pylist(), strict=True):
            values[line - 1] = value
        return values
    column = table[name]
    for method in ("to_pylist", "to_list"):
        if hasattr(column, method):
            return list(getattr(column, method)())
    return list(column)
