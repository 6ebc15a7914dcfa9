"""Data lines: whether each line of the data is one JSON object in strict UTF-8.

Measured: lines that are none, in the training and the evaluation file. Strict means: no byte order mark, no bare NaN
or Infinity, no lone surrogate, no key twice in one object. Blank lines are passed over. Lines beyond 1 MiB are counted
but not looked into. Each line is named with its number and the byte offset of the fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.data.facts import SplitFacts
from gradience_analysis.config_check.data.sentences import NO_TRAIN, extent, lines_of, looked_at, splits_of
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "data_line_invalid"
CODES: Mapping[str, str] = {CODE: "A line of the data is no JSON object in strict UTF-8."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "invalid_lines"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Invalid lines of each file."""
    found = tuple(_measurement(split) for _, split in splits_of(subject.data))
    return found or (Measurement(NAME, None, "lines", reason=NO_TRAIN),)


def _measurement(split: SplitFacts) -> Measurement:
    bad = [{"line": one.number, "offset": one.offset, "reason": one.reason} for one in split.bad_lines]
    details = looked_at(split) | {"first": bad, "extent": extent(split)}
    places = lines_of(split, (one.number for one in split.bad_lines))
    return Measurement(NAME, split.invalid, "lines", split.path, details=details, places=places)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """An error for each file that has one."""
    return [_finding(one) for one in measurements if one.value]


def _finding(invalid: Measurement) -> Finding:
    details = invalid.details
    first = details["first"][0]
    others = int(invalid.value or 0) - 1
    more = f" ({others:,} more {'line is' if others == 1 else 'lines are'} invalid)" if others else ""
    reason = first["reason"].rstrip(".")
    return Finding(
        code=CODE,
        severity=Severity.ERROR,
        message=f"{details['path']}: line {first['line']:,} (byte {first['offset']:,}) {reason}{more}.",
        evidence=dict(details) | {"invalid": invalid.value},
        advice=_advice(first["reason"]),
        basis=f"strict reading of {details['extent']}",
        rule="D02",
        places=invalid.places,
    )


def _advice(reason: str) -> str:
    if "an array" in reason:
        return "Write one JSON object a line (JSON Lines) in place of one array."
    return "Fix that line, or leave it out; look at what wrote it."
