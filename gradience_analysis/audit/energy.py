"""Where the energy of an adapter lies: ‖delta_w‖_F² by layer, and how few layers hold most of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradience_analysis.audit.module import ModuleAudit

TOP_LAYERS = 3


@dataclass(frozen=True, slots=True)
class Concentration:
    """How the energy is spread over the layers.

    Attributes:
        shares: Layer → its share of the energy of all layers, in [0, 1], in order of the layers.
        top: Share of the three layers that hold most.
        top_tenth: Share of the tenth of the layers (at least one) that holds most.
        herfindahl: Sum of the squared shares (Herfindahl index): 1 / layers when all have the same, 1 when one has all.
    """

    shares: Mapping[int, float]
    top: float
    top_tenth: float
    herfindahl: float

    @property
    def top_layers(self) -> tuple[int, ...]:
        """The layers that hold most, the largest share first."""
        return tuple(sorted(self.shares, key=lambda layer: -self.shares[layer])[:TOP_LAYERS])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; every key is always present."""
        return {
            "layers": len(self.shares),
            "shares": {str(layer): share for layer, share in self.shares.items()},
            "top_layers": list(self.top_layers),
            "top_3": self.top,
            "top_10_percent": self.top_tenth,
            "herfindahl": self.herfindahl,
        }


def concentration(rows: Sequence[ModuleAudit]) -> Concentration | None:
    """The spread of energy over the layers; None without a layer, without energy, or when a norm is not known."""
    by_layer: dict[int, float] = {}
    for row in rows:
        if row.layer is not None:
            by_layer[row.layer] = by_layer.get(row.layer, 0.0) + row.energy
    total = math.fsum(by_layer.values())
    if not total > 0 or not math.isfinite(total):
        return None
    shares = {layer: by_layer[layer] / total for layer in sorted(by_layer)}
    ordered = sorted(shares.values(), reverse=True)
    tenth = max(1, math.ceil(len(ordered) / 10))
    return Concentration(
        shares=shares,
        top=math.fsum(ordered[:TOP_LAYERS]),
        top_tenth=math.fsum(ordered[:tenth]),
        herfindahl=math.fsum(share * share for share in ordered),
    )
