"""The training and evaluation curves of a run as tables, with speed and memory beside them."""

from __future__ import annotations

from gradience_analysis.model import Cell, Curve, Field, Fields, Run, Table, as_number
from gradience_analysis.reports.format import at_step, number, size
from gradience_analysis.series.robust import median
from gradience_analysis.telemetry.signals import Summary, steps_per_second, summarize, summarize_evaluations

TRAINING = ("loss", "lr", "grad_norm")
_LABELS = {"grad_norm": "grad norm", "lr": "learning rate"}
_NEVER_A_CURVE = frozenset({"epoch", "nonfinite_loss_steps", "nonfinite_grad_steps", "total_flos"})
_ABOUT_THE_EVALUATION = frozenset({"runtime", "samples_per_second", "steps_per_second", "epoch", "n", "num_tokens"})
_FIRST = ("loss", "ppl", "accuracy")
_RIGHT = frozenset({"first", "best", "best or max", "last"})
_SPLITS = ("train", "val", "test")


def training_curves(run: Run) -> dict[str, Summary]:
    """Summaries of each numeric `train_step` field; loss, learning rate and gradient norm first."""
    names: dict[str, None] = dict.fromkeys(TRAINING)
    names.update(dict.fromkeys(name for name in run.all_series if name not in _NEVER_A_CURVE))
    curves = {name: summarize(run.series(name), name) for name in names}
    return {name: curve for name, curve in curves.items() if curve is not None}


def main_training(curves: dict[str, Summary]) -> dict[str, Summary]:
    """Loss, learning rate and gradient norm."""
    return {name: curve for name, curve in curves.items() if name in TRAINING}


def main_evaluation(curves: dict[str, dict[str, Summary]]) -> dict[str, dict[str, Summary]]:
    """The metrics that judge the model, without those that time the evaluation."""
    return {
        split: {name: curve for name, curve in metrics.items() if name not in _ABOUT_THE_EVALUATION}
        for split, metrics in curves.items()
    }


def evaluation_curves(run: Run) -> dict[str, dict[str, Summary]]:
    """Summaries by split and metric, the well-known first."""
    splits = [*(split for split in _SPLITS if split in run.evaluations)]
    splits += [split for split in run.evaluations if split not in splits]
    result: dict[str, dict[str, Summary]] = {}
    for split in splits:
        points = run.evaluations[split]
        names = dict.fromkeys(name for point in points for name in point.metrics)
        ordered = [*(name for name in _FIRST if name in names), *(name for name in names if name not in _FIRST)]
        curves = {name: summarize_evaluations(points, name) for name in ordered}
        result[split] = {name: curve for name, curve in curves.items() if curve is not None}
    return result


def training_table(curves: dict[str, Summary]) -> Table:
    """One row per quantity; of a quantity without a direction the largest value is shown."""
    rows = tuple(
        (
            _LABELS.get(name, name),
            number(curve.first[1]),
            at_step(curve.best if curve.best is not None else curve.peak),
            number(curve.last[1]),
            _curve(curve, name),
        )
        for name, curve in curves.items()
    )
    return Table(("", "first", "best or max", "last", "curve"), rows, _RIGHT)


def evaluation_table(curves: dict[str, dict[str, Summary]]) -> Table:
    """One row per split and metric."""
    rows: list[tuple[Cell, ...]] = []
    for split, metrics in curves.items():
        for position, (name, curve) in enumerate(metrics.items()):
            label = split if position == 0 else ""
            cells = (number(curve.first[1]), at_step(curve.best), number(curve.last[1]))
            rows.append((label, name, *cells, _curve(curve, f"{split} {name}")))
    return Table(("split", "metric", "first", "best", "last", "curve"), tuple(rows), _RIGHT)


def _curve(curve: Summary, label: str) -> Curve:
    return Curve(curve.points, label)


def speed_and_memory(run: Run) -> Fields:
    """Throughput and peak memory, or what to log to have them."""
    return Fields((Field("Speed", _speed(run)), Field("Memory", _memory(run))))


def throughput(run: Run) -> dict[str, dict[str, float]]:
    """Median and last value of each `throughput` metric."""
    return {
        name: {"median": median(values), "last": values[-1]}
        for name in ("tokens_per_s", "samples_per_s", "step_s")
        if (values := _metric(run, "throughput", name))
    }


def peak_memory(run: Run) -> dict[str, float]:
    """Largest value in MiB of each `memory` metric."""
    names = ("peak_mb", "allocated_mb", "reserved_mb", "rss_mb", "total_mb")
    return {name: max(values) for name in names if (values := _metric(run, "memory", name))}


def _metric(run: Run, kind: str, name: str) -> list[float]:
    values = [as_number(event.payload["metrics"].get(name)) for event in run.metrics.get(kind, ())]
    # NaN compares false with everything, itself included.
    return [float(value) for value in values if value is not None and value >= 0]


def _speed(run: Run) -> str:
    logged = throughput(run)
    words = {"tokens_per_s": "tokens/s", "samples_per_s": "samples/s", "step_s": "s per step"}
    parts = [f"{number(logged[name]['median'])} {word}" for name, word in words.items() if name in logged]
    if parts:
        return f"{' · '.join(parts)} (median)"
    pace = steps_per_second(run)
    if pace is None:
        return "not measured: log metrics of kind throughput"
    return f"{number(pace)} steps/s, evaluations included (from the timestamps)"


def _memory(run: Run) -> str:
    peak = peak_memory(run)
    words = {"peak_mb": "peak", "allocated_mb": "allocated", "reserved_mb": "reserved", "rss_mb": "process"}
    parts = [f"{size(peak[name])} {word}" for name, word in words.items() if name in peak]
    if not parts:
        return "not measured: log metrics of kind memory"
    if "total_mb" in peak:
        parts.append(f"of {size(peak['total_mb'])} on the device")
    return " · ".join(parts)
