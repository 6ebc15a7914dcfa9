"""What a reader of an audit asked to see."""

from __future__ import annotations

from dataclasses import dataclass

from gradience_analysis.audit import RANK_POLICIES


@dataclass(frozen=True, slots=True)
class AuditView:
    """How much of an audit the report shows.

    Attributes:
        top_wasteful: How many of the modules whose rank is used least.
        top_singular_values: How many singular values of each module; more than 0 implies `layers`.
        layers: A row a module.
        suggest_per_layer: The rank that each module is suggested.
        policies: Rules that ranks are suggested by, at least one. The first decides which modules count as wasteful,
            and what `suggest_per_layer` suggests.
        verbose: Evidence, every left-out key and every module without a base weight.
    """

    top_wasteful: int = 5
    top_singular_values: int = 0
    layers: bool = False
    suggest_per_layer: bool = False
    policies: tuple[str, ...] = tuple(RANK_POLICIES)
    verbose: bool = False

    @property
    def policy(self) -> str:
        """The rule that single modules are judged by."""
        return self.policies[0]

    @property
    def rows(self) -> bool:
        """Whether a row a module is shown."""
        return self.layers or self.top_singular_values > 0
