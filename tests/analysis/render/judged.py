"""Reports that pass judgement, made by hand, and text that tries to break out of the format it is put in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import strategies as st

from gradience_analysis.model import Issue, IssueCount, Note, Report
from gradience_analysis.model.report import Meaning, Result
from gradience_schema import Severity

FRAGMENTS = (
    "]]>", "<![CDATA[", "-->", "</failure>", "<x a='b'>", "&#0;", "&amp;", '"', "'", "\x00", "\x0b", "\x1b[2J",
    "\ufffe", "\n::error::x", "\r\n::stop-commands::t", "::", "::warning file=a,line=1::b", "##[error]x",
    "%0A::error::", "%", ",", "\u202e", "\u2028", "\u0085", "\ud800", "\U000e0041", "[text](http://evil)", "{0}",
    "\\", "a b", "/", "..", "#", "?", ":",
)  # fmt: skip
HOSTILE = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=8)), max_size=6).map("".join)
PLAIN = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
# What may stand in no output: it steers a terminal, ends a line, or is no character at all.
STEERS = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def result(name: str, *issues: Issue, more: int = 0, unmeasured: str = "") -> Result:
    """A result with these issues, of which `more` of the first kind were not kept."""
    counts = Counter((issue.code, issue.severity) for issue in issues)
    if issues:
        counts[issues[0].code, issues[0].severity] += more
    rank = {severity: place for place, severity in enumerate(reversed(list(Severity)))}
    ordered = sorted(counts.items(), key=lambda item: rank[item[0][1]])
    return Result(name, issues, tuple(IssueCount(code, level, number) for (code, level), number in ordered), unmeasured)


def judged(*results: Result, text: str = "Some words.") -> Report:
    """A report on these results."""
    meanings = (Meaning("invalid_json", "The line is not JSON.", "Write JSON."),)
    return Report("validate", "title", Note(Severity.ERROR, text), (), {}, tuple(results), meanings)


def fault(
    severity: Severity = Severity.ERROR, code: str = "invalid_json", path: str = "run.jsonl", line: int | None = 1
) -> Issue:
    """One plain issue."""
    return Issue(code, severity, f"is bad on line {line}.", path, line, None if line is None else line * 100)


@st.composite
def hostile_results(draw: st.DrawFn) -> Sequence[Result]:
    """Some results with hostile text in every field."""
    made: list[Result] = []
    for _ in range(draw(st.integers(0, 4))):
        name = draw(HOSTILE)
        issues = [
            Issue(
                draw(HOSTILE), draw(st.sampled_from(Severity)), draw(HOSTILE), name, line, None if line is None else 7
            )
            for line in draw(st.lists(st.one_of(st.none(), st.integers(1, 10**9)), max_size=6))
        ]
        made.append(result(name, *issues, more=draw(st.integers(0, 20)), unmeasured=draw(st.just("") | HOSTILE)))
    return made
