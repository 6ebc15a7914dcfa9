"""Training data: whether the training file is there and holds enough examples to train on.

Measured: examples (lines that hold a JSON object) in the file given with `--data`, JSON Lines with or without gzip.
Looked at are the first 100,000 lines or 128 MiB of each file; a report says when that was not all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.data.sentences import NO_TRAIN, looked_at
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "train_data_missing"
CODES: Mapping[str, str] = {CODE: "The training file is missing, or holds too few examples."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "train_examples"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Examples in the training file."""
    train = subject.data.train if subject.data else None
    if train is None:
        return (Measurement(NAME, None, "examples", reason=NO_TRAIN),)
    details = looked_at(train) | {"fault": train.fault, "said_by_kind": _is_special(subject, train.path)}
    if train.fault:
        return (Measurement(NAME, None, "examples", reason=f"{train.path}: {train.fault}", details=details),)
    # A line that is too long to look into is most likely an example all the same.
    return (Measurement(NAME, train.examples + train.oversized, "examples", train.path, details=details),)


def _is_special(subject: Preflight, path: str) -> bool:
    """Whether the path is a FIFO, a folder and so on, which the check of paths says."""
    given = subject.machine.paths if subject.machine else ()
    return any(one.path == path and one.kind not in {"file", "missing"} for one in given)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error when the file cannot be read or holds fewer examples than the limit."""
    (count,) = measurements
    limit = policy["train_data.examples"]
    details = count.details
    if not details or (count.value is not None and float(count.value) >= limit.value):
        return []
    if count.value is None and details["said_by_kind"]:
        return []
    if count.value is None:
        message = f"The training file cannot be read: {count.reason}"
    else:
        message = f"{details['path']} holds {count.value:,} examples, fewer than {limit.value:g}."
    return [
        Finding(
            code=CODE,
            severity=Severity.ERROR,
            message=message,
            evidence=dict(details) | {"threshold": limit.value},
            advice="Point to the data, or export more of it.",
            confidence=0.95,
            basis=f"the file was read; the threshold is {limit.standing}",
            rule="D01",
        )
    ]
