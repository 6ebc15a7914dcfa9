"""A policy as frozen types."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from gradience_analysis.errors import PolicyError
from gradience_analysis.model.near import did_you_mean


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number that decides.

    Attributes:
        value: The limit; its `meaning` says which side of it is a finding.
        unit: Unit in words.
        meaning: What is held against it, in a sentence.
        source: Where the number comes from.
        calibrated: Whether it was set by measuring labelled runs; otherwise it is a proposal.
    """

    value: float
    unit: str
    meaning: str
    source: str
    calibrated: bool

    @property
    def standing(self) -> str:
        """`calibrated` or `not calibrated`, for the basis of a finding."""
        return "calibrated" if self.calibrated else "not calibrated"


@dataclass(frozen=True, slots=True)
class Policy:
    """The thresholds of one policy version, by name: `diagnostic.threshold`, such as `loss_spike.deviations`.

    Attributes:
        version: Version of the policy file.
        thresholds: Every threshold by its name, in the order of the file.
    """

    version: int
    thresholds: Mapping[str, Threshold]

    def __getitem__(self, name: str) -> Threshold:
        return self.thresholds[name]

    def limit(self, name: str) -> float:
        """The value of a threshold.

        Raises:
            KeyError: There is none of that name: a slip of the caller, never of a user.
        """
        return self.thresholds[name].value

    def under(self, diagnostic: str) -> Mapping[str, Threshold]:
        """The thresholds of one diagnostic, by their full names."""
        return {name: one for name, one in self.thresholds.items() if name.partition(".")[0] == diagnostic}

    def with_limits(self, limits: Mapping[str, float], source: str = "given by the user") -> Policy:
        """The same policy with other values, each marked with where it came from and as not calibrated.

        Args:
            limits: New value by the name of its threshold.
            source: Where they come from, in words.

        Raises:
            PolicyError: There is no such threshold, or a value is not a finite number of at least 0.
        """
        given = dict(self.thresholds)
        for name, value in limits.items():
            if name not in given:
                raise unknown_threshold(name, given)
            if not is_limit(value):
                raise PolicyError(f"The threshold {name} must be a finite number of at least 0, not {value!r}.")
            given[name] = replace(given[name], value=value, source=source, calibrated=False)
        return replace(self, thresholds=given)

    def with_gap_threshold(self, value: float) -> Policy:
        """The same policy with another limit of the generalization gap.

        Raises:
            PolicyError: The value is not a finite number above 0.
        """
        if not (math.isfinite(value) and value > 0):
            raise PolicyError(f"The gap threshold must be a finite ratio above 0, not {value}.", "1.5 is the default.")
        return self.with_limits({"generalization_gap.ratio": value, "generalization_gap.while_improving": value})


def is_limit(value: object) -> bool:
    """Whether a value can be a threshold: a finite number of at least 0."""
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value) and value >= 0


def unknown_threshold(name: str, known: Iterable[str]) -> PolicyError:
    """The error for a threshold that does not exist, with the nearest that does."""
    names = tuple(known)
    return PolicyError(
        f"There is no threshold {name[:80]!r}.", did_you_mean(name, names) or f"Known: {', '.join(names)}."
    )
