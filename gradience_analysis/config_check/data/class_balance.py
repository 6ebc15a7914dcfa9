"""Class balance: how much of the training data is of one class.

Measured: the share of the most frequent class label. Above the limit, always answering that class scores as well, so
that accuracy says little. Not measured where the examples hold no class labels, or numbers to predict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.data.sentences import NO_TRAIN, extent, looked_at, percent, train_of
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "majority_class"
CODES: Mapping[str, str] = {CODE: "Nearly all examples are of one class."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "majority_share"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The share of the most frequent class among the training examples with a class, 0..1."""
    train = train_of(subject)
    if train is None:
        return (Measurement(NAME, None, "ratio", reason=NO_TRAIN),)
    if not train.classes:
        return (Measurement(NAME, None, "ratio", reason="The examples hold no class labels."),)
    total = sum(count for _, count in train.classes)
    label, count = train.classes[0]
    details = looked_at(train) | {
        "class": label,
        "count": count,
        "labelled": total,
        "classes": len(train.classes),
        "extent": extent(train),
    }
    return (Measurement(NAME, count / total, "ratio", train.path, details=details),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning when the share is above the limit."""
    (share,) = measurements
    limit = policy["class_balance.majority_share"]
    if share.value is None or float(share.value) <= limit.value:
        return []
    details = share.details
    count, total = details["count"], details["labelled"]
    return [
        Finding(
            code=CODE,
            severity=Severity.WARNING,
            message=f"{count:,} of {total:,} training examples ({percent(count, total)}) are of class "
            f"{details['class']!r}, above {limit.value:.0%}.",
            evidence=dict(details) | {"share": share.value, "threshold": limit.value},
            advice="Rebalance the classes, or judge by a macro metric.",
            confidence=0.9,
            basis=f"labels in {details['extent']}; the threshold is {limit.standing}",
            caveat="A file that is sorted by class shows one class at its start." if not details["complete"] else "",
            rule="D08",
        )
    ]
