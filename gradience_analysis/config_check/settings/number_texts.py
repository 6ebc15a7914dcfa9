"""Numbers that YAML reads as text: which settings would come as text into the program that trains?

YAML 1.1, and PyYAML with it, reads `3e-4` as a text: a number with an exponent needs a point and a sign there, as in
`3.0e-4`. Such a setting is checked as the number that it is meant to be, and named here. A program that reads the file
with another library, or converts the value itself, is not concerned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.keys import NUMBERS
from gradience_analysis.config_check.settings.quantity import spelled, where
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Change, Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {"number_read_from_text": "A number stands in YAML in a form that is a text there."}
COVERS: Mapping[str, frozenset[str]] = {}
_WHY = "that is a number in every YAML reader"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Settings that were read as numbers though they are texts."""
    texts = [one for one in subject.settings.values() if one.remark and one.key in NUMBERS and one.value is not None]
    details = {
        "texts": [{"setting": one.name, "where": where(one), "written": one.raw, "value": one.value} for one in texts]
    }
    return (Measurement("numbers_as_text", len(texts), "settings", "the configuration", details=details),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A remark for each of them."""
    del policy
    (texts,) = measurements
    return [
        Finding(
            code="number_read_from_text",
            severity=Severity.INFO,
            message=f"{one['where']} is {one['written']}, which is text in YAML 1.1; "
            f"checked as {spelled(one['value'])}.",
            evidence=dict(one),
            confidence=0.9,
            basis="the rules of YAML 1.1",
            caveat="A program that converts the value itself is not concerned.",
            changes=(Change(one["setting"], one["written"], _pointed(one["value"]), _WHY),),
        )
        for one in texts.details["texts"]
    ]


def _pointed(value: float) -> str:
    """The number as YAML 1.1 wants it: a point, and a sign of the exponent."""
    mantissa, _, exponent = f"{value:.15g}".partition("e")
    pointed = mantissa if "." in mantissa else f"{mantissa}.0"
    return f"{pointed}e{int(exponent):+d}" if exponent else pointed
