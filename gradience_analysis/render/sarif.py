"""A report as SARIF 2.1.0, the format that code scanning takes: rules, results, and the places they are about."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

from gradience_analysis.model import Issue, Report, plural
from gradience_analysis.model.report import Result
from gradience_analysis.render.inert import inert
from gradience_analysis.render.worst import not_shown, worst_first
from gradience_schema import Severity

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
MAX_RESULTS = 5_000
MAX_BYTES = 10_000_000
_MAX_NOTIFICATIONS = 100
_MAX_TEXT = 1_000
_LEVELS = {
    Severity.INFO: "note",
    Severity.WARNING: "warning",
    Severity.ERROR: "error",
    Severity.CRITICAL: "error",
}
_PLACEHOLDER = re.compile(r"\{(\d+)\}")


def render_sarif(report: Report) -> str:
    """One run with at most 5,000 results and 10 MB, the worst first; what is left out is counted in a notification."""
    issues = worst_first(report.results)[:MAX_RESULTS]
    text = _document(report, issues)
    while issues and len(text) > MAX_BYTES:
        issues = issues[: int(len(issues) * 0.95 * MAX_BYTES / len(text))]
        text = _document(report, issues)
    return text


def _document(report: Report, issues: list[Issue]) -> str:
    index: dict[str, int] = {}
    results = [_result(issue, index.setdefault(issue.code, len(index))) for issue in issues]
    unmeasured = [result for result in report.results if result.unmeasured]
    invocation = {
        "executionSuccessful": not unmeasured,
        "toolExecutionNotifications": _notifications(report, unmeasured, issues),
    }
    run = {
        "tool": {"driver": {"name": "gradience", "rules": _rules(report, list(index))}},
        "automationDetails": {"id": f"gradience {report.kind}/"},
        "invocations": [invocation],
        "results": results,
    }
    document = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":")) + "\n"


def _result(issue: Issue, rule: int) -> dict[str, Any]:
    region = {"startLine": issue.line, "byteOffset": issue.byte_offset}
    location = _location(issue.path)
    if issue.line is not None:
        location["physicalLocation"]["region"] = {key: value for key, value in region.items() if value is not None}
    return {
        "ruleId": _clip(inert(issue.code)),
        "ruleIndex": rule,
        "level": _LEVELS[issue.severity],
        "message": {"text": _message(issue.message)},
        "locations": [location],
    }


def _location(path: str) -> dict[str, Any]:
    return {"physicalLocation": {"artifactLocation": _artifact(path)}}


def _artifact(path: str) -> dict[str, str]:
    try:
        raw = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = path.encode("utf-8", "replace")
    uri = quote(raw, safe="/")
    # A relative path is one below the checkout, as code scanning wants it; a second leading slash would name a host.
    return {"uri": f"file:///{uri.lstrip('/')}"} if path.startswith("/") else {"uri": uri, "uriBaseId": "%SRCROOT%"}


def _rules(report: Report, codes: list[str]) -> list[dict[str, Any]]:
    meanings = {meaning.code: meaning for meaning in report.meanings}
    rules: list[dict[str, Any]] = []
    for code in codes:
        known = meanings.get(code)
        text = code.replace("_", " ") if known is None else known.text
        rule: dict[str, Any] = {"id": _clip(inert(code)), "shortDescription": {"text": _message(text)}}
        rule["fullDescription"] = rule["shortDescription"]
        if known is not None:
            rule["help"] = {"text": _message(known.remedy)}
        rules.append(rule)
    return rules


def _notifications(report: Report, unmeasured: list[Result], shown: list[Issue]) -> list[dict[str, Any]]:
    told = [
        {"level": "error", "message": {"text": _message(result.unmeasured)}, "locations": [_location(result.name)]}
        for result in unmeasured[:_MAX_NOTIFICATIONS]
    ]
    if len(unmeasured) > len(told):
        told.append(_told(f"{plural(len(unmeasured) - len(told), 'more file')} could not be read."))
    for severity, number in not_shown(report.results, shown):
        told.append(_told(f"{plural(number, 'more issue')} of severity {severity} not listed here."))
    return told


def _told(text: str) -> dict[str, Any]:
    return {"level": "warning", "message": {"text": text}}


def _message(text: str) -> str:
    """Text in which nothing is a link or a placeholder to who shows the message."""
    safe = _clip(inert(text[: _MAX_TEXT + 1])).replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
    return _PLACEHOLDER.sub(r"{{\1}}", safe)


def _clip(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
