"""A report as workflow commands, which GitHub Actions shows as annotations at the lines they are about."""

from __future__ import annotations

from gradience_analysis.model import Issue, Report, plural
from gradience_analysis.render.inert import inert
from gradience_analysis.render.worst import not_shown, worst_first
from gradience_schema import Severity

MAX_ANNOTATIONS = 10
"""GitHub shows no more of one step."""
_MAX_TEXT = 2_000
_COMMANDS = {
    Severity.INFO: "notice",
    Severity.WARNING: "warning",
    Severity.ERROR: "error",
    Severity.CRITICAL: "error",
}


def render_github(report: Report) -> str:
    """The verdict as a line of the log, then at most ten annotations: the worst, and how many more there are."""
    unmeasured = [result for result in report.results if result.unmeasured]
    issues = worst_first(report.results)
    total = len(unmeasured) + sum(number for _, number in not_shown(report.results, ()))
    room = MAX_ANNOTATIONS if total <= MAX_ANNOTATIONS else MAX_ANNOTATIONS - 1
    lines = [_log_line(f"gradience {report.kind}: {report.verdict.text}")]
    lines += [_command("error", result.unmeasured, file=result.name, title="not read") for result in unmeasured[:room]]
    shown = issues[: max(0, room - len(unmeasured))]
    lines += [_annotation(issue) for issue in shown]
    left = not_shown(report.results, shown)
    more = total - len(shown) - len(unmeasured[:room])
    if more:
        words = [plural(number, _noun(severity)) for severity, number in left]
        if len(unmeasured) > room:
            words.insert(0, f"{len(unmeasured) - room:,} not read")
        worst = "error" if len(unmeasured) > room else _COMMANDS[left[0][0]]
        lines.append(_command(worst, f"{more:,} more: {', '.join(words)}.", title=f"gradience {report.kind}"))
    return "\n".join(lines) + "\n"


def _noun(severity: Severity) -> str:
    return "remark" if severity is Severity.INFO else str(severity)


def _annotation(issue: Issue) -> str:
    where = "" if issue.byte_offset is None else f" (byte {issue.byte_offset:,})"
    line = "" if issue.line is None else str(issue.line)
    return _command(
        _COMMANDS[issue.severity], f"{issue.message}{where}", file=issue.path, line=line, title=str(issue.code)
    )


def _command(name: str, message: str, **properties: str) -> str:
    given = ",".join(f"{key}={_property(value)}" for key, value in properties.items() if value)
    return f"::{name} {given}::{_data(message)}"


def _data(text: str) -> str:
    clipped = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
    return inert(clipped).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _log_line(text: str) -> str:
    # The older form of a command is found anywhere in a line; ours never starts with the newer one.
    return inert(text).replace("##[", "# #[")
