"""Example length: how many training examples are longer than the maximum length, and are cut off or dropped.

Measured: the share of examples with more tokens than `max_length`. Tokens are counted exactly where the examples hold
input_ids, or over a sample (the first 500 examples and each 50th after them, 2,000 at most) with the tokenizer of
`--model` where the `tokenizers` library is installed; a chat's template adds a few that are not counted. Otherwise they
are estimated from the characters, at 5 a token, which is few tokens for most text; that estimate is only ever a
remark, never a warning. Not measured without a maximum length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.data.sentences import NO_TRAIN, extent, percent, train_of
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "long_examples"
CODES: Mapping[str, str] = {CODE: "Too many examples are longer than the maximum length."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "long_share"
CHARACTERS_A_TOKEN = 5.0
_METHODS: Mapping[str, str] = {
    "input_ids": "counted in input_ids",
    "tokenizer": "counted by the tokenizer over a sample",
    "characters": f"estimated at {CHARACTERS_A_TOKEN:g} characters a token",
}


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The share of training examples longer than `max_length`, 0..1."""
    train = train_of(subject)
    if train is None:
        return (Measurement(NAME, None, "ratio", reason=NO_TRAIN),)
    lengths, limit = train.lengths, subject.config.training.max_length
    if lengths is None or not lengths.examples:
        return (Measurement(NAME, None, "ratio", reason="The examples hold neither input_ids nor text."),)
    scale = CHARACTERS_A_TOKEN if lengths.method == "characters" else 1.0
    details = {
        "method": lengths.method,
        "examples": lengths.examples,
        "median": _scaled(lengths.quantile(0.5), scale),
        "p95": _scaled(lengths.quantile(0.95), scale),
        "longest": _scaled(lengths.quantile(1.0), scale),
        "max_length": limit,
        "extent": extent(train),
    }
    source = f"tokens {_METHODS[lengths.method]}"
    if limit is None or limit < 1:
        reason = "No maximum length is set (training.max_length)."
        return (Measurement(NAME, None, "ratio", source, reason, details),)
    longer = lengths.longer_than(limit * scale)
    details["longer"] = longer
    return (Measurement(NAME, longer / lengths.examples, "ratio", source, details=details),)


def _scaled(length: int | None, scale: float) -> int | None:
    return None if length is None else round(length / scale)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning when the share is above the limit; a remark when it is estimated."""
    (share,) = measurements
    limit = policy["example_length.long_share"]
    if share.value is None or float(share.value) <= limit.value:
        return []
    details = share.details
    estimated = details["method"] == "characters"
    longer, examples = details["longer"], details["examples"]
    about = "An estimated " if estimated else ""
    return [
        Finding(
            code=CODE,
            severity=Severity.INFO if estimated else Severity.WARNING,
            message=f"{about}{longer:,} of {examples:,} training examples ({percent(longer, examples)}) are longer "
            f"than max_length {details['max_length']:,}, above {limit.value:.0%}.",
            evidence=dict(details) | {"share": share.value, "threshold": limit.value},
            advice="Raise the length as far as the model allows, or split the examples."
            + (" Give the tokenizer with --model to have tokens counted." if estimated else ""),
            confidence=0.4 if estimated else 0.9,
            basis=f"{share.source}; {details['extent']}; the threshold is {limit.standing}",
            caveat="Text in some languages takes several times as many tokens a character." if estimated else "",
            rule="D06",
        )
    ]
