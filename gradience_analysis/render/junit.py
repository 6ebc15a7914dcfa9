"""A report as JUnit XML: one test case per result, a breach as `<failure>`, what could not be measured as `<error>`."""

from __future__ import annotations

from collections import Counter

from gradience_analysis.model import Report, plural
from gradience_analysis.model.report import Result
from gradience_analysis.render.inert import inert
from gradience_schema import Severity

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


def render_junit(report: Report) -> str:
    """XML 1.0 in ASCII; a character that XML cannot hold, or that steers a terminal, is written as its escape."""
    suite = f"gradience.{report.kind}"
    errors = sum(bool(result.unmeasured) for result in report.results)
    failures = sum(result.breached and not result.unmeasured for result in report.results)
    totals = f'tests="{len(report.results)}" failures="{failures}" errors="{errors}"'
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="{_text(suite)}" {totals}>',
        f'  <testsuite name="{_text(suite)}" {totals} skipped="0">',
        *(line for result in report.results for line in _case(suite, result)),
        "  </testsuite>",
        "</testsuites>",
    ]
    return "\n".join(lines).encode("ascii", "xmlcharrefreplace").decode("ascii") + "\n"


def _case(suite: str, result: Result) -> list[str]:
    opening = f'    <testcase classname="{_text(suite)}" name="{_text(result.name)}"'
    if result.unmeasured:
        reason = _text(result.unmeasured)
        return [f"{opening}>", f'      <error type="not_read" message="{reason}">{reason}</error>', "    </testcase>"]
    if not result.counts:
        return [f"{opening}/>"]
    remarks = _text_lines(_remarks(result))
    if not result.breached:
        return [f"{opening}>", f"      <system-out>{remarks}</system-out>", "    </testcase>"]
    worst = result.counts[0].code
    return [
        f"{opening}>",
        f'      <failure type="{_text(worst)}" message="{_text(_summary(result))}">{remarks}</failure>',
        "    </testcase>",
    ]


def _summary(result: Result) -> str:
    errors = result.count(Severity.ERROR, Severity.CRITICAL)
    warnings = result.count(Severity.WARNING)
    return plural(errors, "error") + (f" and {plural(warnings, 'warning')}" if warnings else "")


def _remarks(result: Result) -> list[str]:
    kept = Counter((issue.code, issue.severity) for issue in result.issues)
    left = [(item, item.count - kept[item.code, item.severity]) for item in result.counts]
    more = [f"and {number:,} more of {item.code} ({item.severity})" for item, number in left if number > 0]
    return [str(issue) for issue in result.issues] + more


def _text_lines(lines: list[str]) -> str:
    return "\n".join(map(_text, lines))


def _text(text: str) -> str:
    return inert(text).translate(_ESCAPES)
