"""Which tables telemetry becomes, and which columns each has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gradience_analysis.tables.arrow import pa

KEYS: Final[tuple[tuple[str, Any], ...]] = (
    ("path", pa.string()),
    ("part", pa.int32()),
    ("line", pa.int64()),
    ("run_id", pa.string()),
    ("step", pa.int64()),
    ("ts", pa.float64()),
)
"""The columns that every table of events begins with: where the record stands, whose it is, and when it was made."""

STEPS: Final[Any] = pa.schema(
    [*KEYS, *((name, pa.float64()) for name in ("loss", "lr", "grad_norm", "epoch"))],
)
"""One row a `train_step`; after these, a column for every other scalar, in the order of their names.

A number column is int64 when every value in it is an integer, else float64. A value that the column cannot hold exactly
(a string among numbers, an integer beyond 64 bits) is null there and stands as text in a column `<name>__text`.
A learning rate for each parameter group gives `lr`, `lr_1`, `lr_2`.
"""

_LONG: Final = (("metric", pa.string()), ("value", pa.float64()), ("type", pa.string()), ("text", pa.string()))

EVALS: Final[Any] = pa.schema([*KEYS, ("split", pa.string()), *_LONG])
"""One row for each metric of each evaluation. `split` is canonical (`val` for eval, validation, dev).

`type` is the JSON type as written: integer, number, string, boolean, null, array or object. `value` holds integers and
numbers (NaN and infinities restored); what a double cannot hold exactly is null there and stands in `text` as JSON, as
is every value that is no number.
"""

METRICS: Final[Any] = pa.schema([*KEYS, ("kind", pa.string()), *_LONG])
"""The same for `metrics` records; a nested object gives one row a leaf, its name joined with dots."""

ALERTS: Final[Any] = pa.schema(
    [*KEYS, *((name, pa.string()) for name in ("severity", "code", "message", "context"))],
)
"""One row an alert; `context` is JSON, null without one."""

RECORDS: Final[Any] = pa.schema([*KEYS, ("event", pa.string()), ("payload", pa.string()), ("nonfinite", pa.string())])
"""Every other record (run_start, run_end, recommendation, unknown events). `payload` is strict JSON.

`nonfinite` is null, or a JSON object: pointer of a payload value that is null here → nan, inf or -inf.
"""

PARTS: Final[Any] = pa.schema(
    [
        ("path", pa.string()),
        ("part", pa.int32()),
        ("run_id", pa.string()),
        ("rank", pa.int32()),
        ("index", pa.int32()),
        ("segment", pa.int64()),
        ("resume_step", pa.int64()),
        ("first_step", pa.int64()),
        ("last_step", pa.int64()),
        ("first_ts", pa.float64()),
        ("last_ts", pa.float64()),
        ("end_ts", pa.float64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("records", pa.int64()),
    ]
)
"""One row for each uninterrupted stretch of a run in a file: what orders the segments of a run.

`rank` and `index` are those in the file's name; `segment` and `resume_step` those that its run_start says, or null.
`first_step` is that of its first `train_step`, null without one; `last_step` is its highest step of any record.
`end_ts`, `status` and `reason` are those of its run_end, null without one.
"""

ISSUES: Final[Any] = pa.schema(
    [
        ("path", pa.string()),
        ("line", pa.int64()),
        ("byte_offset", pa.int64()),
        ("code", pa.string()),
        ("severity", pa.string()),
        ("message", pa.string()),
        ("pointer", pa.string()),
        ("keyword", pa.string()),
    ]
)
"""One row for each issue that was kept."""

ISSUE_COUNTS: Final[Any] = pa.schema(
    [("path", pa.string()), ("code", pa.string()), ("severity", pa.string()), ("count", pa.int64())]
)
"""How often each kind of issue occurred in a file, whether or not each one was kept."""

BAD_LINES: Final[Any] = pa.schema(
    [
        ("path", pa.string()),
        ("line", pa.int64()),
        ("byte_offset", pa.int64()),
        ("size", pa.int64()),
        ("data", pa.binary()),
    ]
)
"""Every refused line with its bytes: of an over-long one only the first mebibyte, `size` being that in the file."""

FILES: Final[Any] = pa.schema(
    [
        ("path", pa.string()),
        ("format", pa.string()),
        ("lines", pa.int64()),
        ("size", pa.int64()),
        ("events", pa.int64()),
        ("rejected", pa.int64()),
        ("missing", pa.int64()),
    ]
)
"""One row a file. `size` is in bytes, decompressed; `missing` is how many events gaps in `seq` show to be lost."""

SCHEMAS: Final[Mapping[str, Any]] = {
    "steps": STEPS,
    "evals": EVALS,
    "metrics": METRICS,
    "alerts": ALERTS,
    "records": RECORDS,
    "parts": PARTS,
    "issues": ISSUES,
    "issue_counts": ISSUE_COUNTS,
    "bad_lines": BAD_LINES,
    "files": FILES,
}
"""Every table, by name. All of them have exactly these columns, but for `steps`, which may have more."""
