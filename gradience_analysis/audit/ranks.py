"""Ranks that would do, by each of several rules; none of them is called the truth."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

from gradience_analysis.errors import GradienceError
from gradience_analysis.linalg import (
    ALLOWED_RANKS,
    effective_rank,
    energy_rank,
    largest_gap_rank,
    null_rank,
    percentile,
    round_up_rank,
    stable_rank,
)
from gradience_analysis.linalg.spectrum import FloatArray
from gradience_analysis.model.near import did_you_mean

DEFAULT_POLICY = "energy@0.90"
"""The rule behind `suggested_r_global_*`, as scripts that read these keys know it."""
SAFE_POLICY = "energy@0.99"
"""The rule that `gradience compress` cuts by unless told otherwise."""


_WRAPPED = ".base_layer"


ENERGY_SHARES = (0.90, 0.95, 0.99)
_SHARE = re.compile(r"energy@(0?\.\d{1,12})")


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


def known_policy(name: str) -> str:
    """The rule of that name.

    Raises:
        GradienceError: There is none; it names those that there are.
    """
    if name in RANK_POLICIES:
        return name
    share = _SHARE.fullmatch(name)
    if share and float(share[1]) in ENERGY_SHARES:
        return f"energy@{float(share[1]):.2f}"  # energy@0.9 is energy@0.90
    near = did_you_mean(name, RANK_POLICIES)
    raise GradienceError(f"There is no rank policy {name!r}. {near}".strip(), f"Policies: {', '.join(RANK_POLICIES)}.")


@dataclass(frozen=True, slots=True)
class RankSuggestion:
    """The ranks that one rule suggests for an adapter.

    Attributes:
        policy: The rule.
        global_median: 50th percentile over the modules of the rank it finds, rounded up to an allowed rank.
        global_90: The 90th percentile, in the same way.
        by_module: Module → suggested rank: rounded up to an allowed rank, never above the module's own, never 0. The
            experts of a parameter have one in common, as in PEFT.
        current: Module → the rank it has.
        params_saved: Parameters that `by_module` would save.
        params: Parameters that there are.
    """

    policy: str
    global_median: int
    global_90: int
    by_module: Mapping[str, int]
    current: Mapping[str, int]
    params_saved: int
    params: int

    @property
    def default_r(self) -> int:
        """The rank that most targets of PEFT are suggested; of several such, the largest; 1 without any."""
        return _commonest(targets_of(self.by_module))

    @property
    def rank_pattern(self) -> dict[str, int]:
        """A `rank_pattern` for PEFT beside `r = default_r`: the targets that are suggested another rank.

        Each key is anchored and escaped, so that PEFT applies it to that module and no other.
        """
        targets = targets_of(self.by_module)
        default = _commonest(targets)
        return {pattern: rank for pattern, rank in targets.items() if rank != default}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; every key is always present."""
        return {
            "policy": self.policy,
            "global_median": self.global_median,
            "global_90": self.global_90,
            "default_r": self.default_r,
            "rank_pattern": self.rank_pattern,
            "params": self.params,
            "params_saved": self.params_saved,
        }


def pattern_of(module: str) -> str:
    r"""A key for `rank_pattern` or `alpha_pattern` that matches this module and no other.

    PEFT matches `(.*\.)?(key)$` from the start of a name, so that a plain name would match longer ones, too.
    """
    return f"^{re.escape(module)}"


def patterns_of(modules: Iterable[str]) -> dict[str, str]:
    """Module → pattern of the thing to which PEFT gives one rank.

    That is the module, or a parameter that is targeted itself, which has one rank for all its experts. Where PEFT has
    put several parameters of a module one around the other, their names in the file (`experts.base_layer`, `experts`)
    do not say which is which, and all of them go by one pattern.

    Args:
        modules: Names of modules; an expert's number in brackets.
    """
    plain = {name: _plain(name) for name in modules}
    nested = {one.partition(_WRAPPED)[0] for one in plain.values() if _WRAPPED in one}
    found: dict[str, str] = {}
    for name, one in plain.items():
        module = one.partition(_WRAPPED)[0]
        found[name] = f"{pattern_of(module)}\\.[^.]+" if module in nested else pattern_of(one)
    return found


def targets_of(by_module: Mapping[str, int]) -> dict[str, int]:
    """Pattern → rank, for each thing to which PEFT gives one rank: the largest that a part of it needs."""
    found: dict[str, int] = {}
    for name, pattern in patterns_of(by_module).items():
        found[pattern] = max(by_module[name], found.get(pattern, 1))
    return found


def applied(by_module: Mapping[str, int]) -> dict[str, int]:
    """Module → the rank that it gets when PEFT applies these: experts of one parameter have the largest in common."""
    patterns, targets = patterns_of(by_module), targets_of(by_module)
    return {name: targets[patterns[name]] for name in by_module}


def _plain(name: str) -> str:
    """A name without the number of an expert."""
    return re.sub(r"\[[0-9]+\]$", "", name)


def _commonest(targets: Mapping[str, int]) -> int:
    counts = Counter(targets.values())
    return max(counts, key=lambda rank: (counts[rank], rank), default=1)


def global_rank(ranks: Sequence[float], share: float, limit: int) -> int:
    """A percentile of the modules' ranks, rounded up to an allowed rank, at most `limit`; 1 without modules."""
    return round_up_rank(percentile(ranks, share), allowed=ALLOWED_RANKS, limit=limit) if ranks else 1
