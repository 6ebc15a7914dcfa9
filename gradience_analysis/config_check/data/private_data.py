"""Private data: whether personal data or secrets stand in the training data.

Measured: examples of a sample (the first 500 and each 50th after them, 2,000 at most) in which an e-mail address, a
telephone number, an API key, a token, a private key or a URL with credentials was found. What a model is trained on
it may repeat. The finding names kinds and lines, never what was found. Public addresses, and numbers that look like
a telephone number, are found too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.data.sentences import NO_TRAIN, lines_of, percent, train_of
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "secrets_in_data"
CODES: Mapping[str, str] = {CODE: "Personal data or a secret stands in a sample of the data."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "private_examples"
_PERSONAL = frozenset({"EMAIL", "PHONE"})


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Examples of the sample that hold personal data or a secret."""
    train = train_of(subject)
    if train is None:
        return (Measurement(NAME, None, "examples", reason=NO_TRAIN),)
    if train.scan is None:
        return (Measurement(NAME, None, "examples", reason="The data were not searched: no search was passed in."),)
    scan = train.scan
    details = {"searched": scan.examples, "kinds": dict(scan.kinds), "lines": list(scan.lines), "path": train.path}
    places = lines_of(train, scan.lines)
    return (Measurement(NAME, scan.hits, "examples", f"sample of {train.path}", details=details, places=places),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning when there are more than the limit."""
    (hits,) = measurements
    limit = policy["private_data.examples"]
    if hits.value is None or float(hits.value) <= limit.value:
        return []
    details = hits.details
    searched, kinds = details["searched"], details["kinds"]
    secret = not _PERSONAL.issuperset(kinds)
    named = ", ".join(f"{kind} in {count:,}" for kind, count in kinds.items())
    return [
        Finding(
            code=CODE,
            severity=Severity.WARNING,
            message=f"{hits.value:,} of {searched:,} searched examples ({percent(float(hits.value), searched)}) "
            f"hold personal data or a secret ({named}), the first in line {details['lines'][0]:,}.",
            evidence=dict(details) | {"hits": hits.value, "threshold": limit.value},
            advice="Redact them, and rotate a key that stood there."
            if secret
            else "Redact them, or check their source.",
            confidence=0.8 if secret else 0.6,
            basis=f"the patterns that telemetry is redacted with, over a sample; the threshold is {limit.standing}",
            caveat="Made-up addresses and numbers look like real ones.",
            rule="D09",
            places=hits.places,
        )
    ]
