"""Findings, alerts and issues of a run as notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from gradience_analysis.model import (
    Change,
    Event,
    Field,
    Fields,
    Finding,
    Issue,
    IssueCount,
    Measurement,
    Note,
    Notes,
    Place,
    Run,
    plural,
)
from gradience_analysis.reports.format import clipped, number
from gradience_schema import Severity

SHOWN = 5
_EVIDENCE = 1_000


def finding_notes(findings: Iterable[Finding], *, verbose: bool) -> Notes:
    """Each finding with what to try; with `verbose` its evidence, places, confidence and reasons too."""
    return Notes(tuple(_finding(finding, verbose=verbose) for finding in findings))


def _finding(finding: Finding, *, verbose: bool) -> Note:
    details = [finding.advice] if finding.advice else []
    details += [_change(change, verbose=verbose) for change in finding.changes]
    if finding.caveat:
        details.append(f"caveat: {finding.caveat}")
    if verbose:
        details += [f"evidence: {_flat(finding.evidence)}"] if finding.evidence else []
        details += [f"where: {_places(finding.places)}"] if finding.places else []
        details.append(f"confidence {finding.confidence:g}" + (f": {finding.basis}" if finding.basis else ""))
        details += [f"rule {finding.rule}"] if finding.rule else []
    return Note(finding.severity, f"{clipped(finding.message)} [{finding.code}]", tuple(details))


def _change(change: Change, *, verbose: bool) -> str:
    text = f"try {change.setting}: {clipped(change.current)} → {clipped(change.suggested)}"
    return f"{text}: {clipped(change.why)}" if verbose and change.why else text


def _places(places: Sequence[Place]) -> str:
    more = f" and {len(places) - SHOWN:,} more" if len(places) > SHOWN else ""
    return ", ".join(clipped(str(place)) for place in places[:SHOWN]) + more


def _flat(evidence: Mapping[str, Any]) -> str:
    parts: list[str] = []
    for name, value in evidence.items():
        if isinstance(value, Mapping):
            parts.append(f"{name} ({_flat(cast('Mapping[str, Any]', value))})")
        else:
            parts.append(f"{name} {_plain(value)}")
    return clipped("; ".join(parts), _EVIDENCE)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in cast("list[object]", value)) or "none"
    if value is None:
        return "not logged"
    return number(value) if isinstance(value, float) else str(value)


def gap_fields(gap: Measurement) -> Fields:
    """The gap, the formula it is, and which numbers it was taken from."""
    if not gap.details:
        return Fields((Field("Gap", f"not measured: {gap.reason}"),))
    best, last = gap.details["at_best"], gap.details["at_last"]
    value = f"not measured: {gap.reason}" if gap.value is None else f"{float(gap.value):.3g}"
    where = "" if last["step"] is None else f" (step {last['step']})"
    same = best["step"] == last["step"]
    # What is no language model has no perplexity, and the exp of its loss difference is not a ratio of two.
    kind = "; no language model, so no perplexity ratio" if gap.details["language_model"] is False else ""
    fields = [
        Field("Gap", f"{value} = {gap.details['formula']}, last{' and best' if same else ''} evaluation{where}"),
        Field("taken from", f"{gap.source}{kind}"),
    ]
    if not same and best["ratio"] is not None:
        fields.append(Field("at the best", f"{best['ratio']:.3g} at step {best['step']}"))
    return Fields(tuple(fields))


def alert_notes(alerts: tuple[Event, ...], *, verbose: bool) -> Notes:
    """The alerts, worst first and then in order; all of them with `verbose`."""
    levels = list(Severity)
    ordered = sorted(alerts, key=lambda alert: -levels.index(Severity(alert.payload["severity"])))
    shown = ordered if verbose else ordered[:SHOWN]
    notes = [_alert(alert) for alert in shown]
    if len(ordered) > len(shown):
        notes.append(Note(Severity.INFO, f"and {plural(len(ordered) - len(shown), 'more alert')} (--verbose)"))
    return Notes(tuple(notes))


def _alert(alert: Event) -> Note:
    at = "" if alert.step is None else f" at step {alert.step}"
    text = f"{clipped(alert.payload['code'])}{at}: {clipped(alert.payload['message'])}"
    return Note(Severity(alert.payload["severity"]), text)


def issue_notes(issues: Iterable[Issue], counts: Iterable[IssueCount], *, verbose: bool) -> Notes:
    """Issues by code, each with its number and its first places."""
    kept: dict[tuple[str, Severity], list[Issue]] = {}
    for issue in issues:
        kept.setdefault((issue.code, issue.severity), []).append(issue)
    notes: list[Note] = []
    for item in counts:
        examples = kept.get((item.code, item.severity), [])
        shown = examples[: SHOWN * 4 if verbose else 1]
        details = [place(issue) for issue in shown]
        if item.count > len(shown) and verbose:
            details.append(f"and {item.count - len(shown):,} more")
        notes.append(Note(item.severity, f"{item.code}: {plural(item.count, 'time')}", tuple(details)))
    return Notes(tuple(notes))


def place(issue: Issue) -> str:
    """An issue as one line: where, and what."""
    where = "" if issue.line is None else f"line {issue.line:,}, byte {issue.byte_offset:,}: "
    return f"{where}{clipped(issue.message)}"


def recording_fields(run: Run) -> Fields:
    """What else was logged, and how whole the record is."""
    fields: list[Field] = []
    shown = {"lora_audit", "throughput", "memory"}
    others = {kind: len(events) for kind, events in run.metrics.items() if kind not in shown}
    if others:
        listed = ", ".join(f"{clipped(kind)} ({number})" for kind, number in list(others.items())[: SHOWN * 2])
        fields.append(Field("Also logged", f"metrics of kind {listed}"))
    records, alerts, issues = sum(len(one.events) for one in run.segments), len(run.alerts), run.count_issues()
    parts = (
        plural(records, "record"),
        plural(alerts, "alert") if alerts else "no alerts",
        plural(issues, "issue") if issues else "no issues",
    )
    fields.append(Field("Telemetry", ", ".join(parts)))
    return Fields(tuple(fields))
