"""The curves of a run as charts, with what its findings are about marked at its steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from gradience_analysis.model import Chart, Curve, EvalPoint, Finding, Mark, Run, as_number
from gradience_analysis.model.gravity import SEVERITY_RANK
from gradience_analysis.reports.format import clipped

MAX_MARKS = 20
"""Marks of one chart; the worst findings come first, and each has its own few steps."""
LOG_RANGE = 100.0
"""Largest over smallest value from which a curve is shown on a logarithmic scale."""
# Beyond it a float no longer tells a step from the next one; a file may hold such a step, but nobody trained it.
_LAST_STEP = 1 << 53
_SPLITS = ("train", "val", "test")
_MOST_CURVES = 6
_GIB = 1024.0
_MEMORY = {"peak_mb": "peak", "allocated_mb": "allocated", "reserved_mb": "reserved", "rss_mb": "process"}


def run_charts(run: Run, findings: Sequence[Finding]) -> tuple[Chart, ...]:
    """Loss, perplexity or accuracy, learning rate, gradient norm and memory, as far as they were logged.

    Args:
        run: The run.
        findings: What it shows; each step among their places is marked, labelled with the finding's message as
            `finding_notes` writes it, so that a page can say which note a mark belongs to.
    """
    marks = finding_marks(findings)
    loss = [Curve(tuple(run.series("loss")), "train, logged"), *_evaluated(run, "loss")]
    charts = [
        _chart("Loss", "loss", loss, marks),
        *(_chart(title, name, _evaluated(run, key), marks) for key, title, name in _metrics(run)),
        _chart("Learning rate", "learning rate", [Curve(tuple(run.series("lr")), "learning rate")], marks, log=False),
        _chart("Gradient norm", "gradient norm", [Curve(tuple(run.series("grad_norm")), "gradient norm")], marks),
        _memory(run, marks),
    ]
    return tuple(chart for chart in charts if chart is not None)


def finding_marks(findings: Iterable[Finding]) -> tuple[Mark, ...]:
    """One mark for each finding and step that it is about, worst first, at most 20."""
    ordered = sorted(findings, key=lambda finding: SEVERITY_RANK[finding.severity])
    marks = {
        (place.step, finding.code): Mark(float(place.step), finding.severity, clipped(finding.message))
        for finding in ordered
        for place in finding.places
        if place.step is not None and place.step <= _LAST_STEP
    }
    return tuple(marks.values())[:MAX_MARKS]


def _chart(
    title: str, y_label: str, curves: Iterable[Curve], marks: tuple[Mark, ...], *, log: bool | None = None
) -> Chart | None:
    shown = tuple(curve for curve in curves if curve.points)
    if not shown:
        return None
    return Chart(title, y_label, shown[:_MOST_CURVES], marks, log=_wide(shown) if log is None else log)


def _wide(curves: Iterable[Curve]) -> bool:
    """Whether the values span so much that on a linear scale most of them would lie on the axis.

    Never where a value is 0 or below it: a loss of 0.0 is worth seeing, and a logarithmic scale has no place for it.
    """
    finite = [y for curve in curves for _, y in curve.points if math.isfinite(y)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) > LOG_RANGE


def _metrics(run: Run) -> list[tuple[str, str, str]]:
    names = {name for points in run.evaluations.values() for point in points for name in point.metrics}
    known = (("ppl", "Perplexity", "perplexity"), ("accuracy", "Accuracy", "fraction"))
    return [entry for entry in known if entry[0] in names]


def _evaluated(run: Run, metric: str) -> list[Curve]:
    """A curve for each split that was evaluated, the usual ones first."""
    splits = [*(split for split in _SPLITS if split in run.evaluations)]
    splits += [split for split in run.evaluations if split not in splits]
    return [Curve(_points(run.evaluations[split], metric), _name(split)) for split in splits]


def _name(split: str) -> str:
    return "train, evaluated" if split == "train" else clipped(split)


def _points(points: Sequence[EvalPoint], metric: str) -> tuple[tuple[float, float], ...]:
    values = [(point.step, point.number(metric)) for point in points]
    return tuple((step, float(value)) for step, value in values if step is not None and value is not None)


def _memory(run: Run, marks: tuple[Mark, ...]) -> Chart | None:
    events = [(event.step, event.payload["metrics"]) for event in run.metrics.get("memory", ())]
    curves = {
        label: [
            (float(step), float(value))
            for step, metrics in events
            if step is not None and (value := as_number(metrics.get(name))) is not None
        ]
        for name, label in _MEMORY.items()
    }
    return _sized(curves, marks)


def _sized(curves: Mapping[str, list[tuple[float, float]]], marks: tuple[Mark, ...]) -> Chart | None:
    """In GiB when the largest value reaches one, else in MiB."""
    largest = max((y for points in curves.values() for _, y in points if math.isfinite(y)), default=0.0)
    unit, size = ("GiB", _GIB) if largest >= _GIB else ("MiB", 1.0)
    scaled = [Curve(tuple((x, y / size) for x, y in points), label) for label, points in curves.items()]
    return _chart("Memory", unit, scaled, marks, log=False)
