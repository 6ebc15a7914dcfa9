"""The ranks that an audit suggests: by each rule, for each module, and where they would save most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradience_analysis.audit import AdapterAudit, ModuleAudit, RankSuggestion
from gradience_analysis.linalg import ALLOWED_RANKS, round_up_rank
from gradience_analysis.reports.audit_view import AuditView


@dataclass(frozen=True, slots=True)
class Waste:
    """A module, and what the chosen rule would take off it.

    Attributes:
        row: The module.
        suggested: The rank that is suggested.
        saved: Parameters that it would save.
    """

    row: ModuleAudit
    suggested: int
    saved: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; every key is always present."""
        return {
            "name": self.row.name,
            "current_r": self.row.r,
            "suggested_r": self.suggested,
            "params_saved": self.saved,
            "utilization": self.row.utilization,
        }


@dataclass(frozen=True, slots=True)
class Suggestions:
    """What the rules suggest for one adapter.

    Attributes:
        by_policy: Rule → its suggestion, in the order in which they were asked for.
        wasteful: The modules that would save most, the largest saving first; none that would save nothing, and
            none whose update is zero.
    """

    by_policy: Mapping[str, RankSuggestion]
    wasteful: tuple[Waste, ...]

    @property
    def ends(self) -> tuple[RankSuggestion, RankSuggestion]:
        """The rules that suggest the lowest and the highest rank at the 90th percentile."""
        found = self.by_policy.values()
        return min(found, key=lambda one: one.global_90), max(found, key=lambda one: one.global_90)

    @property
    def disagree(self) -> bool:
        """Whether their ranks at the 90th percentile differ by more than a step of the ranks that are offered.

        One step may be of the rounding alone.
        """
        lowest, highest = (one.global_90 for one in self.ends)
        return highest > next((rank for rank in ALLOWED_RANKS if rank > lowest), lowest + 64)


def suggestions(audit: AdapterAudit, view: AuditView) -> Suggestions:
    """The suggestions of the rules that were asked for.

    Args:
        audit: An audit with at least one module.
        view: What was asked for.
    """
    by_policy = {policy: audit.suggest_ranks(policy) for policy in view.policies}
    wasteful = sorted(
        (one for one in (waste(row, view.policy) for row in audit.rows if row.sigma[0] > 0) if one.saved > 0),
        key=lambda one: (-one.saved, one.row.utilization, one.row.name),
    )
    return Suggestions(by_policy, tuple(wasteful[: view.top_wasteful]))


def waste(row: ModuleAudit, policy: str) -> Waste:
    """What a rule would take off one module; a factor's elements are proportional to its rank."""
    suggested = round_up_rank(row.ranks[policy], limit=row.r)
    return Waste(row, suggested, row.params - row.params * suggested // row.r)


def policies_data(found: Suggestions) -> dict[str, Any]:
    """Rule → what it suggests, without the modules; and how far the rules lie apart."""
    lowest, highest = found.ends
    return {
        "by_policy": {
            policy: {
                "global_median": one.global_median,
                "global_90": one.global_90,
                "default_r": one.default_r,
                "params": one.params,
                "params_saved": one.params_saved,
            }
            for policy, one in found.by_policy.items()
        },
        "lowest": {"policy": lowest.policy, "global_90": lowest.global_90},
        "highest": {"policy": highest.policy, "global_90": highest.global_90},
        "disagree": found.disagree,
    }


def per_layer_data(audit: AdapterAudit, found: Suggestions, view: AuditView) -> dict[str, Any]:
    """A config's `r` and `rank_pattern` by the chosen rule, and for each module what every rule suggests."""
    chosen = found.by_policy[view.policy]
    return {
        "policy": chosen.policy,
        "default_r": chosen.default_r,
        "rank_pattern": chosen.rank_pattern,
        "params": chosen.params,
        "params_saved": chosen.params_saved,
        "layers": [_layer(row, view.policies) for row in audit.rows],
    }


def _layer(row: ModuleAudit, policies: Sequence[str]) -> dict[str, Any]:
    by_policy = {policy: waste(row, policy).suggested for policy in policies}
    return {
        "name": row.name,
        "adapter": row.adapter,
        "current_r": row.r,
        "suggested_r": by_policy[policies[0]],
        "by_policy": by_policy,
    }
