"""Ignored labels: whether there are examples of which nothing is learned, because all their labels are -100.

Measured: the share of training examples with a list of labels that is -100 throughout. In a batch of such examples
alone the loss is undefined. It happens when the answer is cut off by the maximum length, or the mask is off by a turn.
Not measured where the examples hold no labels: a collator makes them later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.data.sentences import NO_TRAIN, extent, lines_of, looked_at, percent, train_of
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "labels_all_ignored"
CODES: Mapping[str, str] = {CODE: "Every label of an example is -100, so that nothing is learned from it."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "ignored_share"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The share of training examples whose labels are all -100, 0..1."""
    train = train_of(subject)
    if train is None or not train.examples:
        return (Measurement(NAME, None, "ratio", reason=NO_TRAIN),)
    if train.all_ignored is None:
        return (Measurement(NAME, None, "ratio", reason="The examples hold no lists of labels."),)
    details = looked_at(train) | {
        "ignored": train.all_ignored,
        "first": list(train.all_ignored_lines),
        "extent": extent(train),
    }
    places = lines_of(train, train.all_ignored_lines)
    return (Measurement(NAME, train.all_ignored / train.examples, "ratio", train.path, details=details, places=places),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error when the share is above the limit."""
    (share,) = measurements
    limit = policy["ignored_labels.share"]
    if share.value is None or float(share.value) <= limit.value:
        return []
    details = share.details
    count, examples = details["ignored"], details["examples"]
    return [
        Finding(
            code=CODE,
            severity=Severity.ERROR,
            message=f"In {count:,} of {examples:,} training examples ({percent(count, examples)}) every label is -100, "
            f"the first in line {details['first'][0]:,}.",
            evidence=dict(details) | {"share": share.value, "threshold": limit.value},
            advice="Check the masking of the labels, and whether the maximum length cuts the answers off.",
            confidence=0.95,
            basis=f"labels in {details['extent']}; the threshold is {limit.standing}",
            caveat="A few such examples in large batches only cost time.",
            rule="D07",
            places=share.places,
        )
    ]
