"""Ranks that would do, by each of several rules; none of them is called the truth."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TypeAlias

from gradience_analysis.errors import GradienceError
from gradience_analysis.linalg import (
    effective_rank,
    energy_rank,
    largest_gap_rank,
    null_rank,
    stable_rank,
)
from gradience_analysis.linalg.spectrum import FloatArray
from gradience_analysis.model.near import did_you_mean

DEFAULT_POLICY = "energy@0.90"
"""The rule behind `suggested_r_global_*`, as scripts that read these keys know it."""
SAFE_POLICY = "energy@0.99"
"""The rule that `gradience compress` cuts by unless told otherwise."""


ENERGY_SHARES = (0.90, 0.95, 0.99)
_ENERGY = re.compile(r"energy@(0?\.\d{1,12}|1(?:\.0*)?)")


@dataclass(frozen=True)
class Factors:
    """What a rule may look at: one module's spectrum, and what a random adapter of its shape would have.

    Attributes:
        sigma: Singular values of delta_w, descending, of length r.
        r: Its rank.
        shape: (out, in) of delta_w.
        norm_a, norm_b: Frobenius norms of the factors.
        scaling: What their product is scaled by.
    """

    sigma: FloatArray
    r: int
    shape: tuple[int, int]
    norm_a: float
    norm_b: float
    scaling: float

    @cached_property
    def stable_rank(self) -> float:
        """Sum of squares over the largest square; NaN for delta_w = 0."""
        return stable_rank(self.sigma)

    @cached_property
    def effective_rank(self) -> float:
        """Exp of the entropy of the shares of the sum; NaN for delta_w = 0."""
        return effective_rank(self.sigma)

    @cached_property
    def energy_ranks(self) -> Mapping[float, int]:
        """Share → fewest values that hold it of the sum of squares, for `ENERGY_SHARES`; 0 for delta_w = 0."""
        return {share: energy_rank(self.sigma, share) for share in ENERGY_SHARES}


RankPolicy: TypeAlias = Callable[[Factors], float]
"""A rule: the rank that it finds in a module, not rounded."""


def energy_policy(share: float) -> RankPolicy:
    """The rule that keeps this share of the energy, in (0, 1]."""
    if share in ENERGY_SHARES:
        return lambda of: of.energy_ranks[share]
    return lambda of: energy_rank(of.sigma, share)


def _null(of: Factors) -> float:
    return null_rank(of.sigma, frobenius_a=of.norm_a, frobenius_b=of.norm_b, scaling=of.scaling, shape=of.shape, r=of.r)


RANK_POLICIES: Mapping[str, RankPolicy] = MappingProxyType(
    {
        "energy@0.90": energy_policy(0.90),
        "energy@0.95": energy_policy(0.95),
        "energy@0.99": energy_policy(0.99),
        "stable_rank_ceil": lambda of: of.stable_rank,
        "effective_rank": lambda of: of.effective_rank,
        "largest_gap": lambda of: largest_gap_rank(of.sigma),
        "null": _null,
    }
)
"""Rule → the rank that it finds in a module, not rounded; NaN where it is undefined (delta_w = 0)."""


def rank_by(rule: RankPolicy, of: Factors) -> int:
    """The rank that a rule finds: rounded up to a whole number, at least 1, at most r. For delta_w = 0, 1."""
    value = rule(of)
    # 1e-9: a stable rank of 4 that was computed as 4.0000000001 is 4.
    return 1 if math.isnan(value) else min(max(math.ceil(value - 1e-9), 1), of.r)


def ranks_by_policy(of: Factors) -> dict[str, int]:
    """The rank that each rule finds."""
    return {name: rank_by(rule, of) for name, rule in RANK_POLICIES.items()}


def energy_share(name: str) -> float | None:
    """The share in `energy@SHARE`, above 0 and at most 1; None of any other name."""
    found = _ENERGY.fullmatch(name)
    return float(found[1]) or None if found else None


def known_policy(name: str) -> str:
    """The rule of that name.

    Raises:
        GradienceError: There is none; it names those that there are.
    """
    if name in RANK_POLICIES:
        return name
    share = energy_share(name)
    if share is not None and share in ENERGY_SHARES:
        return f"energy@{share:.2f}"  # energy@0.9 is energy@0.90
    near = did_you_mean(name, RANK_POLICIES)
    raise GradienceError(f"There is no rank policy {name!r}. {near}".strip(), f"Policies: {', '.join(RANK_POLICIES)}.")
