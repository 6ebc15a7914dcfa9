"""What the comparison of two adapters found: a row a module that both adapt, and what follows from the rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from gradience_analysis.adapters.factors import LeftOut
from gradience_analysis.audit.naming import MODULE_TYPES, ModuleType
from gradience_analysis.linalg import percentile
from gradience_analysis.policy import Threshold

Label: TypeAlias = Literal["conflicting", "redundant", "imbalanced", "partial", "orthogonal", "unclear"]
LABELS: Mapping[Label, str] = MappingProxyType(
    {
        "conflicting": "The updates point against each other: in a sum they cancel in part.",
        "redundant": "The updates point the same way: a sum counts them twice.",
        "imbalanced": "One update is so much larger that a sum is hardly more than that one.",
        "partial": "They write into common output directions, without agreeing or cancelling as a whole.",
        "orthogonal": "They write into output directions that have no more in common than chance gives.",
        "unclear": "There is nothing to tell by: an update is zero or not finite, or the ranks fill the whole space.",
    }
)
"""Label → what it says, in the order in which a reader wants to see them."""
_FIGURES = ("left", "left_baseline", "right", "right_baseline", "direction", "direction_baseline")


@dataclass(frozen=True, slots=True)
class ModuleOverlap:
    """One module that both adapters adapt; NaN where a figure is undefined.

    Attributes:
        name: The module, without `base_model.model.`; of an expert, with its number in brackets.
        module_type: attn, mlp or other.
        layer: Number of its layer; None where its name has none.
        shape: (outputs, inputs) of lora_B @ lora_A; an embedding's delta_w is the transpose of that.
        r_a, r_b: Ranks of the factors.
        rank_a, rank_b: Dimensions of the subspaces compared: of the singular vectors that hold most of the energy.
        left: Mean squared cosine of the principal angles of the left (output) subspaces, 0 orthogonal to 1 contained.
        left_baseline: What random subspaces have on average, max(rank_a, rank_b) / out.
        right, right_baseline: The same of the right (input) subspaces.
        direction: Cosine between the updates as vectors, <a, b>_F / (‖a‖_F ‖b‖_F), -1 to 1.
        direction_baseline: Standard deviation of that cosine for random directions, whose mean is 0.
        magnitude_ratio: ‖a‖_F / ‖b‖_F; None where a scaling is not known, infinite when only b is 0.
        label: One of `LABELS`.
        reason: Why the label is `unclear`; else empty.
    """

    name: str
    module_type: ModuleType
    layer: int | None
    shape: tuple[int, int]
    r_a: int
    r_b: int
    direction_baseline: float
    magnitude_ratio: float | None
    rank_a: int = 0
    rank_b: int = 0
    left: float = math.nan
    left_baseline: float = math.nan
    right: float = math.nan
    right_baseline: float = math.nan
    direction: float = math.nan
    label: Label = "unclear"
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with every key always present; what is undefined or not known is null."""
        return {
            "name": self.name,
            "module_type": self.module_type,
            "layer": self.layer,
            "shape": list(self.shape),
            "r_a": self.r_a,
            "r_b": self.r_b,
            "rank_a": self.rank_a,
            "rank_b": self.rank_b,
            **{name: _finite(getattr(self, name)) for name in _FIGURES},
            "magnitude_ratio": _finite(self.magnitude_ratio),
            "label": self.label,
            "reason": self.reason or None,
        }


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A module that both adapt, as weights of different shapes."""

    name: str
    shape_a: tuple[int, int]
    shape_b: tuple[int, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"name": self.name, "shape_a": list(self.shape_a), "shape_b": list(self.shape_b)}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two adapters.

    Attributes:
        path: Its folder, as it was given.
        name: What it is called.
        modules: Adapted matrices that its factors give.
        lora_keys: Keys that belong to the adapter at all.
        left_out: Keys that make no module, and why.
        base_model: The base model that its config names; empty when it names none.
    """

    path: Path
    name: str
    modules: int
    lora_keys: int
    left_out: tuple[LeftOut, ...]
    base_model: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with every key always present."""
        return {
            "path": str(self.path),
            "name": self.name,
            "base_model": self.base_model or None,
            "modules": self.modules,
            "lora_keys": self.lora_keys,
            "left_out": [
                {"module": one.module, "keys": list(one.keys), "reason": one.reason, "sentence": one.sentence}
                for one in self.left_out
            ],
        }


@dataclass(frozen=True)
class AdapterOverlap:
    """Two adapters, compared.

    Attributes:
        a, b: The two.
        rows: A row a module that both adapt with one shape, in the order of the first.
        mismatched: Modules that both adapt with different shapes.
        only_a, only_b: Modules that one adapts alone.
        thresholds: The limits that the labels rest on, by their names in the policy.
        remarks: What limits the figures, a sentence each.
    """

    a: Side
    b: Side
    rows: tuple[ModuleOverlap, ...]
    mismatched: tuple[Mismatch, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    thresholds: Mapping[str, Threshold]
    remarks: tuple[str, ...] = ()

    @cached_property
    def labels(self) -> dict[Label, int]:
        """Modules by label; every label is there."""
        counts = Counter(row.label for row in self.rows)
        return {label: counts[label] for label in LABELS}

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Medians over all rows, as plain JSON types; None where no row has the figure."""
        return totals(self.rows)

    def to_dict(self, *, layers: bool = False) -> dict[str, Any]:
        """Plain JSON types, with every key always present; `layers` adds the rows."""
        by_type = {kind: [row for row in self.rows if row.module_type == kind] for kind in MODULE_TYPES}
        found: dict[str, Any] = {
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "compared": len(self.rows),
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "mismatched": [one.to_dict() for one in self.mismatched],
            "labels": dict(self.labels),
            "summary": self.summary,
            "by_type": {kind: totals(rows) for kind, rows in by_type.items()},
            "thresholds": {
                name: {"value": one.value, "unit": one.unit, "meaning": one.meaning, "calibrated": one.calibrated}
                for name, one in self.thresholds.items()
            },
            "remarks": list(self.remarks),
        }
        if layers:
            found["layer_data"] = {"layer_rows": [row.to_dict() for row in self.rows]}
        return found


def totals(rows: Sequence[ModuleOverlap]) -> dict[str, Any]:
    """How many rows, and the median (linear interpolation) of each figure over those where it is finite."""
    found: dict[str, Any] = {"n_layers": len(rows)}
    found |= {f"{name}_median": _median(getattr(row, name) for row in rows) for name in _FIGURES}
    found["magnitude_ratio_median"] = _median(row.magnitude_ratio for row in rows if row.magnitude_ratio is not None)
    return found


def _median(values: Iterable[float]) -> float | None:
    defined = [value for value in values if math.isfinite(value)]
    return percentile(defined, 50) if defined else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
