"""One row a run: who it is, how it went, its configuration, and its final and best numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from gradience_analysis.runs.extremes import extremes_of_losses, extremes_of_metrics
from gradience_analysis.runs.flatten import config_columns, flatten
from gradience_analysis.runs.gaps import EvalRow, gap_of
from gradience_analysis.runs.holdings import Wanted
from gradience_analysis.store.contents import Finding
from gradience_analysis.tables.arrow import pa, pc
from gradience_analysis.tables.bundle import Tables
from gradience_analysis.tables.columns import column
from gradience_analysis.tables.segments import segments
from gradience_analysis.telemetry.restore import restore_nonfinite
from gradience_analysis.telemetry.signals import Gap

NO_RUN_END: Final = "no run_end"
FINDINGS: Final = ("findings.error", "findings.warning", "findings.info")
ISSUES: Final = ("issues.error", "issues.warning")
_LEADING: Final = {
    "run_id": pa.string(),
    "name": pa.string(),
    "path": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
    "started": pa.timestamp("us", tz="UTC"),
    "duration_s": pa.float64(),
    "segments": pa.int64(),
    "steps": pa.int64(),
}
_PLACE: Final = ("path", "part", "line", "run_id", "step")
NEEDED: Final[Wanted] = {
    "steps": (*_PLACE, "loss"),
    "evals": (*_PLACE, "split", "metric", "value", "type", "text"),
    "metrics": _PLACE,
    "alerts": _PLACE,
    "records": None,
    "issue_counts": None,
}
"""What of the tables a summary is made of."""
_GAP_METRICS: Final = ("loss", "ppl")
_SPLITS: Final = ("train", "val", "test")
_METRICS: Final = ("loss", "ppl", "accuracy")


def summary(view: Tables, names: Mapping[str, str]) -> Any:
    """The table of runs, without what only a judgement can say.

    Args:
        view: The analysis view of the tables that are `NEEDED`.
        names: Short name by run id, in the order of the rows.
    """
    run_ids = list(names)
    parts = _main_parts(view.parts)
    starts = _run_starts(view.records)
    rows = [_leading(run_id, names[run_id], parts[run_id], starts.get(run_id, ({}, {}))) for run_id in run_ids]
    last_steps = _last_steps(view, parts)
    columns: dict[str, Any] = {
        name: pa.array([row.get(name) for row in rows], kind) for name, kind in _LEADING.items() if name != "steps"
    }
    columns["steps"] = pa.array([last_steps.get(run_id) for run_id in run_ids], pa.int64())
    values = _losses(view, run_ids) | _metrics(view, run_ids)
    values["gap"] = pa.array(_gaps(view, run_ids), pa.float64())
    values |= _issues(view, run_ids)
    configs = [flatten(starts[run_id][0]) if run_id in starts else {} for run_id in run_ids]
    columns |= config_columns(configs, {*columns, *values, *FINDINGS})
    return pa.table(columns | values)


def with_findings(table: Any, found: Mapping[str, Finding]) -> Any:
    """The table with the number of findings by severity; null for a run that could not be judged."""
    each = [found[run_id] for run_id in table["run_id"].to_pylist()]
    counts = (
        [None if one.error is None or one.critical is None else one.error + one.critical for one in each],
        [one.warning for one in each],
        [one.info for one in each],
    )
    place = table.column_names.index(ISSUES[0])
    for more, (name, numbers) in enumerate(zip(FINDINGS, counts, strict=True)):
        table = table.add_column(place + more, name, pa.array(numbers, pa.int64()))
    return table


def _main_parts(parts: Any) -> dict[str, list[dict[str, Any]]]:
    """The parts of each run on its lowest rank, in order."""
    known = segments(parts)
    known = known.filter(known["main"]).sort_by("order")
    by_run: dict[str, list[dict[str, Any]]] = {}
    for row in known.to_pylist():
        by_run.setdefault(row["run_id"], []).append(row)
    return by_run


def _run_starts(records: Any) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Configuration and meta of the newest run_start of each run."""
    found: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for row in records.filter(pc.equal(records["event"], "run_start")).to_pylist():
        payload = json.loads(row["payload"])
        if row["nonfinite"] is not None:
            restore_nonfinite(payload, json.loads(row["nonfinite"]))
        meta = payload.get("meta")
        found[row["run_id"]] = (payload["config"], meta if isinstance(meta, dict) else {})
    return found


def _leading(
    run_id: str, name: str, parts: Sequence[Mapping[str, Any]], start: tuple[dict[str, Any], dict[str, Any]]
) -> dict[str, Any]:
    last = parts[-1]
    # A log without times was given the order of its records in their place.
    timed = start[1].get("ts_source") != "order"
    spent = [
        max(0.0, (part["last_ts"] if part["end_ts"] is None else part["end_ts"]) - part["first_ts"]) for part in parts
    ]
    return {
        "run_id": run_id,
        "name": name,
        "path": parts[0]["path"],
        "status": NO_RUN_END if last["status"] is None else last["status"],
        "reason": last["reason"],
        "started": _moment(parts[0]["first_ts"]) if timed else None,
        "duration_s": math.fsum(spent) if timed else None,
        "segments": len(parts),
    }


def _moment(ts: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(ts, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _last_steps(view: Tables, parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, int]:
    """The highest step of any record of the view; that of the last segment is known from its part."""
    found = {run_id: rows[-1]["last_step"] for run_id, rows in parts.items() if rows[-1]["last_step"] is not None}
    for table in (view.steps, view.evals, view.metrics, view.alerts, view.records):
        highest = table.select(["run_id", "step"]).group_by("run_id").aggregate([("step", "max")]).to_pylist()
        for row in highest:
            if row["step_max"] is not None:
                found[row["run_id"]] = max(found.get(row["run_id"], 0), row["step_max"])
    return found


def _losses(view: Tables, run_ids: Sequence[str]) -> dict[str, Any]:
    found = {extreme.key[0]: extreme for extreme in extremes_of_losses(view.steps)}
    final = [found[run_id].final if run_id in found else None for run_id in run_ids]
    lowest = [found[run_id].best if run_id in found else None for run_id in run_ids]
    return {"loss.final": pa.array(final, pa.float64()), "loss.min": pa.array(lowest, pa.float64())}


def _metrics(view: Tables, run_ids: Sequence[str]) -> dict[str, Any]:
    """`<split>.<metric>.final`, and `.best` with `.best_step` where the direction of the metric is known."""
    values: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for extreme in extremes_of_metrics(view.evals):
        run_id, split, metric = extreme.key
        curve = values.setdefault((split, metric), {"final": {}, "best": {}, "best_step": {}})
        curve["final"][run_id] = extreme.final
        if extreme.best is not None:
            curve["best"][run_id] = extreme.best
            curve["best_step"][run_id] = extreme.best_step
    columns: dict[str, Any] = {}
    for split, metric in sorted(values, key=_well_known_first):
        for kind, by_run in values[split, metric].items():
            if by_run:
                columns[f"{split}.{metric}.{kind}"] = _numbers([by_run.get(run_id) for run_id in run_ids])
    return columns


def _well_known_first(curve: tuple[str, str]) -> tuple[int, str, int, str]:
    split, metric = curve
    return _place(split, _SPLITS), split, _place(metric, _METRICS), metric


def _place(name: str, known: Sequence[str]) -> int:
    return known.index(name) if name in known else len(known)


def _numbers(values: list[Any]) -> Any:
    """Integers stay integers when every one is; an integer that neither type holds is given as the nearest double."""
    held, text = column(values)
    if text is None or text.null_count == len(text):
        return held
    return pa.array([None if value is None else float(value) for value in values])


def _gaps(view: Tables, run_ids: Sequence[str]) -> list[float | None]:
    """The gap at the last evaluation, null where there is none or it is beyond the range of a double."""
    wanted = pc.and_(pc.is_in(view.evals["metric"], value_set=pa.array(_GAP_METRICS)), pc.is_valid(view.evals["value"]))
    rows: dict[str, list[EvalRow]] = {}
    for row in view.evals.filter(wanted).to_pylist():
        place = (row["path"], row["line"])
        rows.setdefault(row["run_id"], []).append(
            EvalRow(place, row["step"], row["split"], row["metric"], row["value"])
        )
    gaps: list[float | None] = []
    for run_id in run_ids:
        gap = gap_of(run_id, rows.get(run_id, ()), _loss_series(view.steps, run_id))
        gaps.append(gap.last.ratio if isinstance(gap, Gap) and math.isfinite(gap.last.ratio) else None)
    return gaps


def _loss_series(steps: Any, run_id: str) -> Callable[[], list[tuple[int, float]]]:
    def series() -> list[tuple[int, float]]:
        mine = steps.filter(pc.equal(steps["run_id"], run_id)).select(["step", "loss"])
        mine = mine.filter(pc.and_(pc.is_valid(mine["step"]), pc.is_valid(mine["loss"])))
        return list(zip(mine["step"].to_pylist(), mine["loss"].to_pylist(), strict=True))

    return series


def _issues(view: Tables, run_ids: Sequence[str]) -> dict[str, Any]:
    """Issues of the files of each run, by severity."""
    paths: dict[str, set[str]] = {}
    for row in view.parts.select(["run_id", "path"]).to_pylist():
        paths.setdefault(row["run_id"], set()).add(row["path"])
    errors: dict[str, int] = {}
    warnings: dict[str, int] = {}
    for row in view.issue_counts.to_pylist():
        counts = warnings if row["severity"] == "warning" else errors
        if row["severity"] != "info":
            counts[row["path"]] = counts.get(row["path"], 0) + row["count"]
    return {
        name: pa.array([sum(counts.get(path, 0) for path in paths[run_id]) for run_id in run_ids], pa.int64())
        for name, counts in zip(ISSUES, (errors, warnings), strict=True)
    }
