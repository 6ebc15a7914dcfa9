"""What `gradience monitor` says about one run or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradience_analysis.diagnostics import DIAGNOSTICS, Diagnosis, diagnose
from gradience_analysis.model import Block, Field, Fields, Note, Notes, Report, Run, Section, Table, plural
from gradience_analysis.model.gravity import SEVERITY_RANK
from gradience_analysis.policy import Policy
from gradience_analysis.reports.adapter import adapter_section
from gradience_analysis.reports.curves import (
    evaluation_curves,
    evaluation_table,
    main_evaluation,
    main_training,
    speed_and_memory,
    training_curves,
    training_table,
)
from gradience_analysis.reports.format import at_step, duration, number
from gradience_analysis.reports.header import configuration, header
from gradience_analysis.reports.monitor_data import SCHEMA, run_data
from gradience_analysis.reports.remarks import (
    alert_notes,
    finding_notes,
    gap_fields,
    issue_notes,
    recording_fields,
)
from gradience_analysis.reports.unmeasured import unmeasured_fields
from gradience_analysis.telemetry.signals import Summary
from gradience_schema import Severity


@dataclass(frozen=True, slots=True)
class _Judged:
    run: Run
    diagnosis: Diagnosis
    training: dict[str, Summary]
    evaluation: dict[str, dict[str, Summary]]
    verdict: Note


def monitor_report(runs: Sequence[Run], policy: Policy, *, verbose: bool = False, page: bool = False) -> Report:
    """Measure and judge each run, and lay out what there is to say; several runs get an overview first.

    Args:
        runs: The runs, at least one.
        policy: Thresholds to judge by.
        verbose: Add evidence, every metric and every issue.
        page: Add what a page has room for: charts, and the whole configuration.

    Raises:
        ValueError: There is no run.
    """
    if not runs:
        raise ValueError("a monitor report needs at least one run")
    judged = [_judge(run, policy) for run in runs]
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "verdict": {},
        "policy_version": policy.version,
        "runs": [run_data(item.run, item.diagnosis, item.verdict, item.training, item.evaluation) for item in judged],
    }
    if len(judged) == 1:
        verdict = judged[0].verdict
        sections = _sections(judged[0], verbose=verbose, page=page)
    else:
        verdict = _overall(judged)
        sections = [Section("Overview", (_overview(judged),))]
        for item in judged:
            heading = Section(item.run.path, (Notes((item.verdict,)),))
            sections += [heading, *_sections(item, verbose=verbose, page=page)]
    data["verdict"] = {"severity": str(verdict.severity), "text": verdict.text}
    return Report(
        "monitor", runs[0].path if len(runs) == 1 else plural(len(runs), "run"), verdict, tuple(sections), data
    )


def _judge(run: Run, policy: Policy) -> _Judged:
    diagnosis = diagnose(run, DIAGNOSTICS, policy)
    training, evaluation = training_curves(run), evaluation_curves(run)
    verdict = _verdict(run, diagnosis, training, evaluation)
    return _Judged(run, diagnosis, training, evaluation, verdict)


def _verdict(
    run: Run, diagnosis: Diagnosis, training: dict[str, Summary], evaluation: dict[str, dict[str, Summary]]
) -> Note:
    loud = [finding for finding in diagnosis.findings if finding.severity is not Severity.INFO]
    if not loud:
        return Note(Severity.INFO, _summary(run, diagnosis, training, evaluation))
    more = f" ({plural(len(loud) - 1, 'more finding')} below)" if len(loud) > 1 else ""
    return Note(loud[0].severity, loud[0].message + more)


def _summary(
    run: Run, diagnosis: Diagnosis, training: dict[str, Summary], evaluation: dict[str, dict[str, Summary]]
) -> str:
    """A run with nothing against it, in one line of numbers."""
    word = "for" if run.status is None else "in"
    spent = "" if run.duration_s is None else f" {word} {duration(run.duration_s)}"
    parts = [f"{_ending(run)}{spent}"]
    loss = training.get("loss")
    if loss is not None and loss.count > 1:
        parts.append(f"loss {number(loss.first[1])} to {number(loss.last[1])}")
    for split, metrics in evaluation.items():
        shown = [f"{name} {number(metrics[name].last[1])}" for name in ("ppl", "loss", "accuracy") if name in metrics]
        if split != "train" and shown:
            parts.append(f"{split} {', '.join(shown[:2])}")
    gap = diagnosis.measurement("generalization_gap")
    parts.append("gap not measured" if gap.value is None else f"gap {float(gap.value):.3g}")
    return "; ".join(parts) + "."


def _ending(run: Run) -> str:
    if run.status is None:
        return "Running"
    return "Ran to its end" if run.status == "ok" else "Stopped early"


def _sections(item: _Judged, *, verbose: bool, page: bool) -> list[Section]:
    run, diagnosis = item.run, item.diagnosis
    sections = [Section("", (header(run),))]
    if diagnosis.findings:
        sections.append(Section("Findings", (finding_notes(diagnosis.findings, verbose=verbose),)))
    if page:
        from gradience_analysis.reports.charts import run_charts

        sections.append(Section("Curves", run_charts(run, diagnosis.findings)))
    sections += [_training(item, verbose=verbose), _evaluation(item, verbose=verbose)]
    adapter = adapter_section(run)
    if adapter is not None:
        sections.append(adapter)
    if run.alerts:
        sections.append(Section("Alerts", (alert_notes(run.alerts, verbose=verbose),)))
    if page and run.config is not None:
        sections.append(Section("Configuration", (configuration(run.config),)))
    sections.append(_record(item, verbose=verbose))
    return sections


def _training(item: _Judged, *, verbose: bool) -> Section:
    training = item.training if verbose else main_training(item.training)
    table: tuple[Block, ...] = (training_table(training),) if training else (_nothing("Training", "no train_step"),)
    return Section("Training", (*table, speed_and_memory(item.run)))


def _evaluation(item: _Judged, *, verbose: bool) -> Section:
    evaluation = item.evaluation if verbose else main_evaluation(item.evaluation)
    shown = evaluation_table(evaluation) if any(evaluation.values()) else _nothing("Evaluation", "no eval record")
    return Section("Evaluation", (shown, gap_fields(item.diagnosis.measurement("generalization_gap"))))


def _record(item: _Judged, *, verbose: bool) -> Section:
    """How whole the record is, and what it does not hold."""
    run = item.run
    blocks: list[Block] = [recording_fields(run)]
    if run.issue_counts:
        blocks.append(issue_notes(run.issues, run.issue_counts, verbose=verbose))
    blocks.append(unmeasured_fields(item.diagnosis.measurements, verbose=verbose))
    return Section("", tuple(blocks))


def _nothing(label: str, what: str) -> Fields:
    return Fields((Field(label, f"not measured: the run has {what} with a number in it"),))


def _overall(judged: Sequence[_Judged]) -> Note:
    worst = min(judged, key=lambda item: SEVERITY_RANK[item.verdict.severity]).verdict.severity
    if worst is Severity.INFO:
        return Note(worst, f"{plural(len(judged), 'run')}, nothing against any of them.")
    bad = sum(item.verdict.severity is not Severity.INFO for item in judged)
    return Note(worst, f"{bad} of {plural(len(judged), 'run')} with findings.")


def _overview(judged: Sequence[_Judged]) -> Table:
    rows: list[tuple[str, ...]] = []
    for item in judged:
        loss = item.training.get("loss")
        held_out = next((m["loss"] for s, m in item.evaluation.items() if s != "train" and "loss" in m), None)
        gap = item.diagnosis.measurement("generalization_gap").value
        loud = [finding for finding in item.diagnosis.findings if finding.severity is not Severity.INFO]
        cells = (
            str(item.run.status or "no end"),
            "-" if loss is None else number(loss.last[1]),
            "-" if held_out is None else at_step(held_out.best),
            "-" if gap is None else f"{float(gap):.3g}",
            ", ".join(dict.fromkeys(finding.code for finding in loud)) or "-",
        )
        rows.append((item.run.path, *cells))
    columns = ("run", "status", "last loss", "best eval loss", "gap", "findings")
    return Table(columns, tuple(rows), frozenset(columns[2:5]))
