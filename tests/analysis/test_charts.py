"""The charts of a run: which there are, of what, and what is marked in them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradience_analysis.model import Chart, Finding, Mark, Place
from gradience_analysis.reports.charts import MAX_MARKS, finding_marks, run_charts
from gradience_analysis.reports.remarks import finding_notes
from gradience_analysis.telemetry.assemble import load_run
from gradience_schema import Severity
from tests.analysis.records import end, evaluation, healthy_run, record, start, train, write


def charts(folder: Path, records: list[dict[str, Any]], *findings: Finding) -> Mapping[str, Chart]:
    """The charts of these records, by title."""
    return {chart.title: chart for chart in run_charts(load_run(write(folder / "run.jsonl", records)), findings)}


def found(code: str, *steps: int | None, severity: Severity = Severity.WARNING) -> Finding:
    """A finding about these steps."""
    return Finding(code, severity, f"Something about {code}.", places=tuple(Place(step) for step in steps))


def test_each_quantity_that_was_logged_has_a_chart(tmp_path: Path) -> None:
    """Given a run with everything, when charted, then loss, perplexity, rate, norm and memory come in this order."""
    made = charts(tmp_path, healthy_run())
    assert list(made) == ["Loss", "Perplexity", "Learning rate", "Gradient norm", "Memory"]
    assert [curve.label for curve in made["Loss"].curves] == ["train, logged", "train, evaluated", "val"]
    assert [curve.label for curve in made["Perplexity"].curves] == ["train, evaluated", "val"]
    assert [len(curve.points) for curve in made["Loss"].curves] == [8, 4, 4]
    assert made["Learning rate"].curves[0].points[0] == (5, 2e-4 * (1 - 5 / 40))
    assert (made["Memory"].y_label, [curve.label for curve in made["Memory"].curves]) == ("MiB", ["peak", "process"])


def test_what_was_not_logged_has_none(tmp_path: Path) -> None:
    """Given a run with a start and an end only, when charted, then there is no chart; an accuracy alone gives one."""
    assert charts(tmp_path, [start(), end()]) == {}
    made = charts(tmp_path, [start(), evaluation(3, "eval", accuracy=0.5), evaluation(None, "eval", accuracy=0.7)])
    assert list(made) == ["Accuracy"]
    (curve,) = made["Accuracy"].curves
    assert (curve.label, curve.points) == ("val", ((3, 0.5),))


def test_memory_is_in_gib_where_it_is_large(tmp_path: Path) -> None:
    """Given 40 GiB, when charted, then the unit is GiB, and values that are no numbers are left out."""
    kinds = ({"peak_mb": 40_960.0, "rss_mb": "much"}, {"peak_mb": 20_480, "rss_mb": None})
    events = [record("metrics", step, ts=step, kind="memory", metrics=item) for step, item in enumerate(kinds)]
    chart = charts(tmp_path, [start(), *events])["Memory"]
    assert chart.y_label == "GiB"
    assert [(curve.label, curve.points) for curve in chart.curves] == [("peak", ((0.0, 40.0), (1.0, 20.0)))]


def test_a_wide_range_is_logarithmic_where_that_hides_nothing(tmp_path: Path) -> None:
    """Given norms over more than 100 times, when charted, then on a log scale; not with a 0, and never for the rate."""
    for smallest, expected in ((0.5, True), (10.0, False), (0.0, False), (-1.0, False)):
        records = [
            record("train_step", step, ts=step, grad_norm=norm, lr=norm, loss=1.0)
            for step, norm in enumerate((smallest, 20.0, 100.0, math.nan))
        ]
        made = charts(tmp_path, [start(), *records])
        assert (made["Gradient norm"].log, made["Learning rate"].log) == (expected, False)


def test_findings_are_marked_at_their_steps(tmp_path: Path) -> None:
    """Given findings with places, when charted, then every chart marks them, worst first, and says what notes say."""
    findings = [found("a", 10, None, 20, 20), found("b", 10, severity=Severity.ERROR), found("c")]
    made = charts(tmp_path, [start(), *train(range(1, 30))], *findings)
    expected = (
        Mark(10.0, Severity.ERROR, "Something about b."),
        Mark(10.0, Severity.WARNING, "Something about a."),
        Mark(20.0, Severity.WARNING, "Something about a."),
    )
    assert {chart.marks for chart in made.values()} == {expected}
    notes = finding_notes(findings, verbose=False).items
    assert all(any(mark.label in note.text for note in notes) for mark in expected)


def test_marks_are_few() -> None:
    """Given a finding about a thousand steps, when marked, then the worse finding keeps its mark and few are left."""
    marks = finding_marks([found("many", *range(1_000)), found("worse", 5_000, severity=Severity.CRITICAL)])
    assert len(marks) == MAX_MARKS
    assert marks[0] == Mark(5_000.0, Severity.CRITICAL, "Something about worse.")


def test_a_long_run_keeps_to_few_curves(tmp_path: Path) -> None:
    """Given evaluations of twenty splits, when charted, then the usual ones come first and few are drawn."""
    splits = [*(f"split{n}" for n in range(20)), "test", "eval", "train"]
    chart = charts(tmp_path, [start(), *(evaluation(1, split, loss=1.0) for split in splits)])["Loss"]
    assert [curve.label for curve in chart.curves[:3]] == ["train, evaluated", "val", "test"]
    assert len(chart.curves) == 6
