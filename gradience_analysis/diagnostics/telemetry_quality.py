"""Telemetry quality: whether the record itself is whole; every other number rests on it.

Reading a file names every fault with its place (`gradience validate` lists them all). Here they are counted, and each
kind becomes at most one finding, with the first places:

| finding | rule | what is counted |
|---|---|---|
| `torn_tail` | Q02 | files whose last line lacks its newline; when it is cut off, its event is lost |
| `malformed_line` | Q03 | lines before the end that are no JSON object |
| `events_missing` | Q04 | numbers of `seq` that are missing or come again, and events the emitter counted as dropped |
| `mixed_runs` | Q05 | further run ids in a file |
| `line_too_long` | Q06 | lines above 1 MiB, which are not read |
| `wrong_encoding` | Q07 | files that start with a byte order mark, and lines that are blocks of NUL bytes |
| `unknown_schema_version` | V06 | records of another version of the format |
| `events_lost` | | lines that were refused for any other reason, and what follows a fault in a compressed file |
| `contract_broken` | | other errors, which cost no record, such as training that goes on after `run_end` |
| `telemetry_faults` | | internal faults that the emitter survived |

What the training code logs wrongly (a number in a string, a mistyped event) stands under *logged values*.

A refused line counts once, and so does an event that the emitter dropped and that left a gap. A file in UTF-16 or
UTF-32, or compressed in another way than gzip, is refused before it is read (exit code 2), with the command that
converts it; gzip is read whatever the file is called. A file with no record of this version of the format is refused
too, with the version that it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gradience_analysis.model import Finding, Measurement, Run, plural
from gradience_analysis.policy import Policy
from gradience_analysis.telemetry.faults import REFUSED_VALUES, issues_of, places_of, refused_steps
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "torn_tail": "The last line has no newline: its write was torn.",
    "malformed_line": "A line before the end cannot be read.",
    "events_missing": "The sequence of events has a gap or a repeat.",
    "mixed_runs": "Several runs stand in one segment.",
    "line_too_long": "A line is longer than 1 MiB.",
    "wrong_encoding": "A file starts with a byte order mark, or holds a block of NUL bytes.",
    "unknown_schema_version": "Records are of another major version of the schema.",
    "events_lost": "Records of the telemetry are lost.",
    "contract_broken": "The file breaks the contract of the format.",
    "telemetry_faults": "The emitter survived internal faults.",
}
COVERS: Mapping[str, frozenset[str]] = {}
# Codes that *logged values* and *clock* speak of; under strict reading they are errors.
_ELSEWHERE = frozenset({"number_in_string", "metric_type_changed", "unknown_event", "step_backwards", "ts_backwards"})
_REST_LOST = frozenset({"gzip_fault", "read_error"})


class _Rule(NamedTuple):
    """A rule that issues of certain codes follow.

    Attributes:
        rule: Its id.
        severity: That of its finding.
        issues: Codes of the issues that are counted.
        refuses: Those of them that each cost one line.
        unit: What is counted.
        message: The sentence; it is given the count in words (`{}`). One that ends in a colon goes on with the kinds.
        advice: What to try.
    """

    rule: str
    severity: Severity
    issues: frozenset[str]
    refuses: frozenset[str]
    unit: str
    message: str
    advice: str


_TORN = frozenset({"torn_tail"})
_MALFORMED = frozenset({"invalid_json", "invalid_utf8", "too_deep", "number_too_long", "not_an_object", "invalid_csv"})
_LONG = frozenset({"line_too_long"})
_NUL = frozenset({"nul_bytes"})
_VERSION = frozenset({"unknown_schema"})
_NONE: frozenset[str] = frozenset()
_RULES: Mapping[str, _Rule] = {
    "torn_tail": _Rule(
        "Q02",
        Severity.WARNING,
        _TORN | {"no_final_newline"},
        _TORN,
        "file",
        "The last line of {} has no newline: ",
        "Nothing to do about the file; look for what stopped its writer.",
    ),
    "malformed_line": _Rule(
        "Q03",
        Severity.ERROR,
        _MALFORMED,
        _MALFORMED,
        "line",
        "{} before the end cannot be read.",
        "Look for two writers of one file, or a damaged disk; `gradience validate` names each line.",
    ),
    "mixed_runs": _Rule(
        "Q05",
        Severity.WARNING,
        frozenset({"several_run_ids"}),
        _NONE,
        "further run",
        "Records of {} stand in a file of another run; one run of it is shown.",
        "Give each run a file of its own; `gradience monitor` names the others.",
    ),
    "line_too_long": _Rule(
        "Q06",
        Severity.ERROR,
        _LONG,
        _LONG,
        "line",
        "Not read: {} longer than 1 MiB.",
        "Log a summary in place of raw text or tensors.",
    ),
    "wrong_encoding": _Rule(
        "Q07",
        Severity.ERROR,
        _NUL | {"bom"},
        _NUL,
        "place",
        "Bytes that belong in no JSON stand in {}: ",
        "Write UTF-8 without a byte order mark; after a block of NUL bytes look at the disk.",
    ),
    "unknown_schema_version": _Rule(
        "V06",
        Severity.ERROR,
        _VERSION,
        _VERSION,
        "record",
        "Not read: {} of another version of the format.",
        "Update gradience, or convert the file.",
    ),
}


def measure(run: Run) -> tuple[Measurement, ...]:
    """Faults by rule; records lost in all (refused lines, gaps in seq, dropped by the emitter); everything else."""
    ruled = {code: _by_rule(run, code, rule) for code, rule in _RULES.items()}
    explained = len(refused_steps(run)) + sum(
        run.count_issues(*rule.refuses) for rule in _RULES.values() if rule.refuses
    )
    missing = _missing(run)
    return (*ruled.values(), missing, *_rest(run, missing, run.lines_rejected - explained))


def _by_rule(run: Run, code: str, rule: _Rule) -> Measurement:
    kinds = {name: number for name in sorted(rule.issues) if (number := run.count_issues(name))}
    issues = issues_of(run, rule.issues)
    details = {"kinds": kinds, "first": issues[0].message if issues else None}
    return Measurement(
        code, sum(kinds.values()), f"{rule.unit}s", "issues of reading", details=details, places=places_of(issues)
    )


def _missing(run: Run) -> Measurement:
    segments = (*run.segments, *run.other_ranks)
    dropped = sum(max([event.dropped_events for event in segment.events]) for segment in segments)
    # A dropped event leaves its gap in seq and its count in the next record: one loss, seen twice.
    missing = max(run.events_missing, dropped)
    details = {
        "seq_gaps": run.events_missing,
        "dropped_by_emitter": dropped,
        "breaks": run.count_issues("seq_gap"),
    }
    places = places_of(issues_of(run, {"seq_gap"}))
    return Measurement("events_missing", missing, "events", "seq, dropped_events", details=details, places=places)


def _rest(run: Run, missing: Measurement, unexplained: int) -> tuple[Measurement, Measurement, Measurement]:
    """Records lost in all, errors that no rule speaks of, and faults survived."""
    segments = (*run.segments, *run.other_ranks)
    faults = sum(max([event.telemetry_faults for event in segment.events]) for segment in segments)
    lost = run.lines_rejected + int(missing.value or 0)
    details = {
        "rejected_lines": run.lines_rejected,
        "seq_gaps": missing.details["seq_gaps"],
        "dropped_by_emitter": missing.details["dropped_by_emitter"],
        # What breaks several rules at once has several issues and is one line.
        "for_other_reasons": max(0, unexplained),
        "cut_short": run.count_issues(*_REST_LOST),
    }
    refused = issues_of(run, {"missing_field", *REFUSED_VALUES, *_REST_LOST}, lambda issue: issue.pointer != "/step")
    source = "refused lines, gaps in seq, dropped_events"
    return (
        Measurement("events_lost", lost, "records", source, details=details, places=places_of(refused)),
        _issues_left(run),
        Measurement("telemetry_faults", faults, "faults", "telemetry_faults of the records"),
    )


def _issues_left(run: Run) -> Measurement:
    """All issues, and those errors that neither a rule nor a lost line speaks of."""
    spoken = _ELSEWHERE.union(REFUSED_VALUES, _REST_LOST, *(rule.issues for rule in _RULES.values()))
    spoken |= {"seq_gap", "missing_field"}
    left = {
        item.code: item.count
        for item in run.issue_counts
        if item.severity is Severity.ERROR and item.code not in spoken
    }
    if run.count_issues("foreign_layout"):
        left = {}  # in the log of another tool each error cost a row
    errors, warnings = (run.count_issues(severity=level) for level in (Severity.ERROR, Severity.WARNING))
    kinds = {item.code: item.count for item in run.issue_counts}
    details = {"errors": errors, "warnings": warnings, "kinds": kinds, "broken": left}
    places = places_of(issues_of(run, left))
    return Measurement("telemetry_issues", errors + warnings, "issues", "reading", details=details, places=places)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A finding for each rule that the files break, and for what no rule speaks of."""
    ruled, (missing, lost, issues, faults) = measurements[: len(_RULES)], measurements[len(_RULES) :]
    limit = policy.limit("telemetry_quality.events_lost")
    found = [_ruled(item, _RULES[item.name]) for item in ruled if item.value]
    others = (
        _events_missing(missing, limit),
        _events_lost(lost, limit),
        _contract_broken(issues),
        _telemetry_faults(faults),
    )
    return [*found, *(finding for finding in others if finding is not None)]


def _ruled(item: Measurement, rule: _Rule) -> Finding:
    kinds: dict[str, int] = item.details["kinds"]
    message = rule.message.format(plural(int(item.value or 0), rule.unit))
    if message.endswith(": "):
        message += ", ".join(_KINDS[kind].format(number) for kind, number in kinds.items()) + "."
    return Finding(
        code=item.name,
        rule=rule.rule,
        severity=rule.severity,
        message=message,
        evidence={**kinds, "first": item.details["first"]},
        advice=rule.advice,
        basis="counted while reading",
        places=item.places,
    )


_KINDS: Mapping[str, str] = {
    "torn_tail": "{} cut off, the event lost",
    "no_final_newline": "{} complete, nothing lost",
    "bom": "byte order marks {}",
    "nul_bytes": "lines of NUL bytes {}",
}


def _events_missing(item: Measurement, limit: float) -> Finding | None:
    if not item.details["breaks"] and not (isinstance(item.value, int) and item.value > limit):
        return None
    parts = [f"{plural(int(item.value or 0), 'event')} missing"] if item.value else []
    words = {"breaks": "seq breaks {}", "dropped_by_emitter": "{} dropped by the emitter"}
    parts += [text.format(_times(key, item.details[key])) for key, text in words.items() if item.details[key]]
    return Finding(
        code="events_missing",
        rule="Q04",
        severity=Severity.ERROR,
        message=f"The sequence of events is not whole: {', '.join(parts)}.",
        evidence=dict(item.details),
        advice="Curves and counts come from the records that are left; look at the disk, and for two writers.",
        basis="counted while reading",
        places=item.places,
    )


def _times(key: str, number: int) -> str:
    return plural(number, "time") if key == "breaks" else str(number)


def _events_lost(item: Measurement, limit: float) -> Finding | None:
    lines, cut = item.details["for_other_reasons"], item.details["cut_short"]
    if lines <= limit and not cut:
        return None
    parts = [f"{plural(lines, 'line')} refused"] if lines else []
    parts += ["the rest of a compressed file"] if cut else []
    return Finding(
        code="events_lost",
        severity=Severity.WARNING,
        message=f"Telemetry records are lost: {' and '.join(parts)}.",
        evidence=dict(item.details),
        advice="`gradience validate` names each place. The numbers here come from the records that are left.",
        basis="counted while reading",
        places=item.places,
    )


def _contract_broken(item: Measurement) -> Finding | None:
    broken: dict[str, int] = item.details["broken"]
    if not broken:
        return None
    places = plural(sum(broken.values()), "place")
    return Finding(
        code="contract_broken",
        severity=Severity.WARNING,
        message=f"The file breaks the contract in {places}: {', '.join(broken)}.",
        evidence=dict(broken),
        advice="`gradience validate` names each place.",
        basis="counted while reading",
        places=item.places,
    )


def _telemetry_faults(item: Measurement) -> Finding | None:
    if not item.value:
        return None
    return Finding(
        code="telemetry_faults",
        severity=Severity.INFO,
        message=f"The emitter survived {plural(int(item.value), 'internal fault')}; training went on.",
        advice="The training log holds the first one with its traceback; please report it.",
        basis="the emitter counts them",
    )
