"""Shared examples: whether examples that the run is to be evaluated on stand in its training data.

Measured: different contents of the evaluation file that the training file has too. Compared is the SHA-256 of the
content: the fields of the example's layout without the class label, after Unicode NFKC and with each run of white
space as one space; case counts. Any overlap is an error, since the evaluation then measures memory in part. Where a
file was not read to its end, the count is a lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.data.layouts import NORMALISATION
from gradience_analysis.config_check.data.sentences import percent
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement, Place
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "split_overlap"
CODES: Mapping[str, str] = {CODE: "Examples of the evaluation data stand in the training data too."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "shared_examples"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Evaluation contents that the training file has too."""
    data = subject.data
    if data is None or data.overlap is None or data.train is None or data.evaluation is None:
        reason = "It takes two files of examples: give them with --data and --eval-data."
        return (Measurement(NAME, None, "examples", reason=reason),)
    complete = data.train.complete and data.evaluation.complete
    details = {
        "train": data.train.path,
        "evaluation": data.evaluation.path,
        "examples": data.evaluation.examples,
        "complete": complete,
        "definition": NORMALISATION,
        "lines": [{"evaluation": second, "train": first} for second, first in data.overlap_lines],
    }
    places = tuple(Place(path=data.evaluation.path, line=line) for line, _ in data.overlap_lines)
    return (Measurement(NAME, data.overlap, "examples", NORMALISATION, details=details, places=places),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error when more are shared than the limit."""
    (shared,) = measurements
    limit = policy["shared_examples.examples"]
    if shared.value is None or float(shared.value) <= limit.value:
        return []
    details = shared.details
    share = percent(float(shared.value), details["examples"])
    first = details["lines"][0]
    count = f"{shared.value:,}" if details["complete"] else f"At least {shared.value:,}"
    return [
        Finding(
            code=CODE,
            severity=Severity.ERROR,
            message=f"{count} of {details['examples']:,} evaluation examples ({share}) stand in the training data, the "
            f"first in line {first['evaluation']:,} (training line {first['train']:,}).",
            evidence=dict(details) | {"shared": shared.value, "threshold": limit.value},
            advice="Deduplicate the splits against each other.",
            confidence=0.95,
            basis=f"equal {NORMALISATION}",
            caveat="Very short texts may repeat without one having been copied.",
            rule="D04",
            places=shared.places,
        )
    ]
