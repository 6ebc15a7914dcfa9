"""The ranks that one rule suggests for an adapter, and how PEFT is told them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradience_analysis.audit.module import ModuleAudit
from gradience_analysis.linalg import ALLOWED_RANKS, percentile, round_up_rank

_WRAPPED = ".base_layer"


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
        return commonest_rank(targets_of(self.by_module).values())

    @property
    def rank_pattern(self) -> dict[str, int]:
        """A `rank_pattern` for PEFT beside `r = default_r`: the targets that are suggested another rank.

        Each key is anchored and escaped, so that PEFT applies it to that module and no other.
        """
        targets = targets_of(self.by_module)
        default = commonest_rank(targets.values())
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


def commonest_rank(ranks: Iterable[int]) -> int:
    """The rank that most have; of several such, the largest; 1 without any."""
    counts = Counter(ranks)
    return max(counts, key=lambda rank: (counts[rank], rank), default=1)


def global_rank(ranks: Sequence[float], share: float, limit: int) -> int:
    """A percentile of the modules' ranks, rounded up to an allowed rank, at most `limit`; 1 without modules."""
    return round_up_rank(percentile(ranks, share), allowed=ALLOWED_RANKS, limit=limit) if ranks else 1


def suggest(rows: Sequence[ModuleAudit], policy: str) -> RankSuggestion:
    """The ranks that a policy suggests for these modules; without any, 1."""
    found = [float(row.ranks[policy]) for row in rows]
    limit = max((row.r for row in rows), default=1)
    by_module = applied({row.name: round_up_rank(row.ranks[policy], limit=row.r) for row in rows})
    # A factor's elements are proportional to its rank.
    saved = sum(row.params - row.params * by_module[row.name] // row.r for row in rows)
    return RankSuggestion(
        policy=policy,
        global_median=global_rank(found, 50, limit),
        global_90=global_rank(found, 90, limit),
        by_module=by_module,
        current={row.name: row.r for row in rows},
        params_saved=saved,
        params=sum(row.params for row in rows),
    )
