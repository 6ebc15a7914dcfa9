"""To which rank each layer of an adapter is cut, and what that is predicted to cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gradience_analysis.audit.ranks import (
    RANK_POLICIES,
    SAFE_POLICY,
    energy_policy,
    energy_share,
    known_policy,
    rank_by,
)
from gradience_analysis.compression.layers import Layer, groups_of
from gradience_analysis.compression.truncating import Measured
from gradience_analysis.errors import GradienceError

Choice: TypeAlias = Callable[[Layer, Sequence[Measured]], int]

ALREADY = "no lower rank is wanted"


@dataclass(frozen=True, slots=True)
class RankRule:
    """How the new ranks are chosen.

    Attributes:
        kind: `policy`, `rank` or `suggestions`.
        text: The rule in words: `energy@0.99`, `rank 8`, `suggestions of ranks.json`.
        choose: The rank wanted for a layer, of each of its products; anything above its own leaves it as it is.
        names: Modules that the rule names; empty for a rule for all.
    """

    kind: str
    text: str
    choose: Choice
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """What is to happen to one layer.

    Attributes:
        layer: The layer.
        measured: Its products as numbers.
        rank: Its new rank, as PEFT counts it; its own where it is kept.
        kept_because: Why it is copied as it is; empty where it is cut.
    """

    layer: Layer
    measured: tuple[Measured, ...]
    rank: int
    kept_because: str

    @property
    def part_rank(self) -> int:
        """New rank of each of its products."""
        return self.rank // self.layer.first.groups

    @property
    def frobenius(self) -> float:
        """‖delta_w‖_F; of experts, of all together."""
        return math.hypot(*(one.frobenius for one in self.measured))

    @property
    def predicted(self) -> float:
        """Frobenius norm of what is cut off: sqrt(sum of the squares of the singular values beyond the new rank)."""
        if self.kept_because:
            return 0.0
        return math.hypot(*(one.error_at(self.part_rank) for one in self.measured))

    @property
    def params_after(self) -> int:
        """Elements of the new factors."""
        return self.layer.params_at(self.rank)


def policy_rule(name: str = SAFE_POLICY) -> RankRule:
    """The ranks that a policy of the audit finds, exactly as it finds them; `energy@Q` for any share Q above 0.

    Of a layer with several products (experts, groups), which have one rank in common, the largest counts.

    Raises:
        GradienceError: There is no such policy.
    """
    share = energy_share(name)
    find = RANK_POLICIES[known_policy(name)] if share is None else energy_policy(share)

    def choose(layer: Layer, measured: Sequence[Measured]) -> int:
        del layer
        return max(rank_by(find, one.factors) for one in measured)

    return RankRule("policy", name, choose)


def fixed_rule(rank: int) -> RankRule:
    """One rank for every layer; of a convolution with groups, the largest multiple of their number up to it.

    Raises:
        GradienceError: It is below 1.
    """
    if rank < 1:
        raise GradienceError(f"A rank of {rank} is none.", "The lowest is 1.")
    return RankRule("rank", f"rank {rank}", lambda layer, _: max(rank // layer.first.groups, 1))


def rule_of(wanted: RankRule | str | int | Mapping[str, int] | None) -> RankRule:
    """The rule that is meant: a policy by its name, one rank for all, a rank a module, or the default policy.

    Raises:
        GradienceError: There is no such policy, or the rank is below 1.
    """
    if isinstance(wanted, RankRule):
        return wanted
    if isinstance(wanted, int):
        return fixed_rule(wanted)
    if isinstance(wanted, Mapping):
        return given_rule(wanted, "a mapping")
    return policy_rule() if wanted is None else policy_rule(wanted)


def given_rule(ranks: Mapping[str, int], source: str) -> RankRule:
    """The ranks of a mapping from modules; a module that it does not name is kept as it is.

    Of experts, `module` names all, and `module[3]` one of them: the largest rank among them counts.

    Args:
        ranks: Module → rank.
        source: Where it comes from, in words.
    """

    def choose(layer: Layer, measured: Sequence[Measured]) -> int:
        del measured
        named = [ranks[name] for name in names_of(layer) if name in ranks]
        if not named or (len(named) < len(layer.modules) and layer.name not in ranks):
            return layer.part_r
        return math.ceil(max(named) / layer.first.groups)

    return RankRule("suggestions", f"suggestions of {source}", choose, tuple(ranks))


def names_of(layer: Layer) -> tuple[str, ...]:
    """The names under which a layer can be given a rank: its own, and those of its experts."""
    return tuple(dict.fromkeys((layer.name, *(module.name for module in layer.modules))))


def plan(layers: Sequence[Layer], measured: Sequence[tuple[Measured, ...]], rule: RankRule) -> tuple[PlannedLayer, ...]:
    """The new rank of every layer, in the order given; layers that PEFT looks up by one name get the largest in common.

    Raises:
        GradienceError: The rule names a module that the adapter does not have.
    """
    _refuse_unknown(layers, rule)
    wanted = {
        id(layer): min(max(rule.choose(layer, numbers), 1), layer.part_r) * layer.first.groups
        for layer, numbers in zip(layers, measured, strict=True)
    }
    found: dict[int, tuple[int, str]] = {}
    for group in groups_of(layers):
        rank, r = max(wanted[id(layer)] for layer in group), group[0].r
        obstacle = next((layer.kept_because for layer in group if layer.kept_because), "")
        reason = obstacle or (ALREADY if rank >= r else "")
        found |= {id(layer): (r if reason else rank, reason) for layer in group}
    return tuple(
        PlannedLayer(layer, numbers, *found[id(layer)]) for layer, numbers in zip(layers, measured, strict=True)
    )


def _refuse_unknown(layers: Sequence[Layer], rule: RankRule) -> None:
    known = {name for layer in layers for name in names_of(layer)}
    unknown = [name for name in rule.names if name not in known]
    if unknown:
        from gradience_analysis.adapters.strict_json import shown
        from gradience_analysis.model.near import did_you_mean

        hint = did_you_mean(unknown[0], sorted(known))
        raise GradienceError(
            f"The adapter has no module {shown(unknown[0])}, for which the {rule.text} give a rank{hint}.",
            "Take suggestions that were made for this adapter.",
        )
