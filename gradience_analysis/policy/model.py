"""A policy as frozen types."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from gradience_analysis.errors import PolicyError


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number that decides.

    Attributes:
        value: The limit; what lies above it is a finding.
        unit: Unit in words.
        source: Where the number comes from.
        calibrated: Whether it was set by measuring labelled runs; otherwise it is a proposal.
    """

    value: float
    unit: str
    source: str
    calibrated: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """The thresholds of one policy version.

    Attributes:
        version: Version of the policy file.
        generalization_gap: Highest ratio that is still no finding.
        nonfinite_steps: Most steps with a non-finite loss or gradient that are still no finding.
        events_lost: Most telemetry records that may be lost without a finding.
    """

    version: int
    generalization_gap: Threshold
    nonfinite_steps: Threshold
    events_lost: Threshold

    def with_gap_threshold(self, value: float) -> Policy:
        """The same policy with another gap threshold, marked as given by the user.

        Raises:
            PolicyError: The value is not a finite number above 0.
        """
        if not (math.isfinite(value) and value > 0):
            raise PolicyError(f"The gap threshold must be a finite ratio above 0, not {value}.", "1.5 is the default.")
        given = replace(self.generalization_gap, value=value, source="given by the user", calibrated=False)
        return replace(self, generalization_gap=given)
