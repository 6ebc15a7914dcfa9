"""Duplicate examples: how many training examples repeat an earlier one exactly.

Measured: the share of examples whose fields of their layout, labels included, are exactly those of an earlier line;
other fields, such as an id, do not count. Repeats act like more epochs on what is repeated. Data that are up-sampled
on purpose exceed the limit, and so do short generated examples from a small set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.data.sentences import NO_TRAIN, extent, lines_of, looked_at, percent, train_of
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "duplicate_examples"
CODES: Mapping[str, str] = {CODE: "Too many training examples are exact duplicates."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "duplicate_share"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The share of training examples that repeat an earlier one, 0..1."""
    train = train_of(subject)
    if train is None or not train.examples:
        return (Measurement(NAME, None, "ratio", reason=NO_TRAIN),)
    lines = [{"line": line, "repeats": first} for line, first in train.duplicate_lines]
    details = looked_at(train) | {"duplicates": train.duplicates, "first": lines, "extent": extent(train)}
    places = lines_of(train, (line for line, _ in train.duplicate_lines))
    share = train.duplicates / train.examples
    return (Measurement(NAME, share, "ratio", train.path, details=details, places=places),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning when the share is above the limit."""
    (share,) = measurements
    limit = policy["duplicate_examples.share"]
    if share.value is None or float(share.value) <= limit.value:
        return []
    details = share.details
    count, examples = details["duplicates"], details["examples"]
    return [
        Finding(
            code=CODE,
            severity=Severity.WARNING,
            message=f"{count:,} of {examples:,} training examples ({percent(count, examples)}) repeat an earlier one "
            f"exactly, above {limit.value:.0%}.",
            evidence=dict(details) | {"share": share.value, "threshold": limit.value},
            advice="Deduplicate the training data, unless the repeats are meant.",
            confidence=0.8,
            basis=f"equal fields in {details['extent']}; the threshold is {limit.standing}",
            caveat="Examples that are repeated on purpose, to weigh more, are counted too.",
            rule="D05",
            places=share.places,
        )
    ]
