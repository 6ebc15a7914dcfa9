"""Required fields: whether each example has the fields that the others have, with something in them.

Measured: the layout that most examples have, such as `text`, `prompt/completion`, `messages`, `instruction/output`,
`input_ids/labels` or `text+label`, and for each of its fields how many examples lack it (or hold null) and how many
hold nothing but white space or an empty list. One that is absent is an error, and so are more empty ones than the
limit. Where most examples have no layout that is known, the finding is less sure: a training script may map columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradience_analysis.config_check.data.facts import FieldFacts, SplitFacts
from gradience_analysis.config_check.data.sentences import (
    NO_TRAIN,
    extent,
    lines_of,
    looked_at,
    percent,
    splits_of,
)
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy, Threshold
from gradience_schema import Severity

CODE = "data_field_missing"
CODES: Mapping[str, str] = {CODE: "A required field is absent, or is empty in too many examples."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "incomplete_examples"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The largest count of examples that lack a required field, or hold nothing in it, for each file."""
    found = tuple(_measurement(split) for _, split in splits_of(subject.data) if split.examples)
    return found or (Measurement(NAME, None, "examples", reason=NO_TRAIN),)


def _measurement(split: SplitFacts) -> Measurement:
    fields = [{"name": one.name, "absent": one.absent, "empty": one.empty, "line": _first(one)} for one in split.fields]
    details = looked_at(split) | {
        "layout": split.layout,
        "fields": fields,
        "names": list(split.names),
        "extent": extent(split),
    }
    lines = sorted({one["line"] for one in fields if isinstance(one["line"], int)})
    worst = max((max(one.absent, one.empty) for one in split.fields), default=split.examples)
    return Measurement(NAME, worst, "examples", split.path, details=details, places=lines_of(split, lines[:5]))


def _first(field: FieldFacts) -> int | None:
    return field.first_empty if field.first_absent is None else field.first_absent


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error for each file with an absent field, or with more empty ones than the limit."""
    limit = policy["required_fields.empty_share"]
    found: list[Finding] = []
    for one in measurements:
        if not one.value:
            continue
        if not one.details["layout"]:
            found.append(_unknown(one))
            continue
        examples = one.details["examples"]
        wrong = [field for field in one.details["fields"] if _is_wrong(field, examples, limit)]
        if wrong:
            found.append(_finding(one, wrong, limit))
    return found


def _is_wrong(field: Mapping[str, Any], examples: int, limit: Threshold) -> bool:
    return bool(field["absent"] > 0 or field["empty"] > limit.value * examples)


def _finding(one: Measurement, wrong: Sequence[Mapping[str, Any]], limit: Threshold) -> Finding:
    details = one.details
    examples, first = details["examples"], wrong[0]
    count = first["absent"] or first["empty"]
    what = "lack" if first["absent"] else "have nothing in"
    line = "" if first["line"] is None else f", first in line {first['line']:,}"
    return Finding(
        code=CODE,
        severity=Severity.ERROR,
        message=f"{details['path']}: {count:,} of {examples:,} examples ({percent(count, examples)}) {what} the field "
        f"{first['name']!r} that the others have{line}.",
        evidence=dict(details) | {"threshold": limit.value},
        advice="Map the columns, or drop those examples.",
        confidence=0.9,
        basis=f"most examples are {details['layout']}; {details['extent']}; the threshold for empty fields is "
        f"{limit.standing}",
        caveat="A training script that drops or fills such examples makes this needless.",
        rule="D03",
        places=one.places,
    )


def _unknown(one: Measurement) -> Finding:
    details = one.details
    names = ", ".join(details["names"][:8]) or "none"
    return Finding(
        code=CODE,
        severity=Severity.ERROR,
        message=f"{details['path']}: most examples have no set of fields that is known to be trained on ({names}).",
        evidence=dict(details),
        advice="Map the columns to text, prompt and completion, messages, or text and label.",
        confidence=0.5,
        basis=f"the names of the fields; {details['extent']}",
        caveat="A training script that maps these columns by itself makes this needless.",
        rule="D03",
    )
