"""Seed: is one set?

Without a seed that is written down, a run cannot be repeated, and two runs cannot be told apart from chance. Nothing
is said of a configuration of an adapter alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.settings.quantity import BY_DEFINITION, take
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Change, Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {"seed_unset": "No seed is set."}
COVERS: Mapping[str, frozenset[str]] = {}
_TRAINING = ("training.", "optimizer.")


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The seed, and how many settings of a training there are beside it."""
    beside = sum(key.startswith(_TRAINING) for key in subject.settings)
    reason = "" if beside else "no setting of the training was given; give --training"
    return (
        take(subject, "training.seed", "seed", "seed", whole=True, absent="not set"),
        Measurement("settings_beside_seed", beside or None, "settings", "the configuration", reason),
    )


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning when a training is configured without a seed."""
    del policy
    seed, beside = measurements
    if beside.value is None or (seed.details and seed.details["fault"] != "null"):
        return []
    written = seed.details["written"] if seed.details else "not set"
    return [
        Finding(
            code="seed_unset",
            severity=Severity.WARNING,
            message=f"No seed is set ({seed.source} is null)." if seed.details else "No seed is set.",
            evidence={"seed": written, "settings": beside.value},
            confidence=0.8,
            basis=BY_DEFINITION,
            caveat="A trainer may have a default: Hugging Face's is 42.",
            rule="V09",
            changes=(Change("seed", written, "42", "a run with a fixed seed can be repeated"),),
        )
    ]
