"""Two adapters: where they write into the same directions, whether they agree there, and which of them is larger.

Each module that both adapt is compared through its factors: the left subspaces (outputs, from lora_B) and the right
ones (inputs, from lora_A) apart, the direction of the whole update, and its size. Every figure has its baseline: what
independent random updates of the same shape and rank give. The labels are proposals, not calibrated by any merge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gradience_analysis.adapters.factors import Layout, LoraModule
from gradience_analysis.adapters.opened import OpenedAdapter, open_adapter
from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.audit.naming import layer_index, module_type
from gradience_analysis.audit.overlap_result import LABELS, AdapterOverlap, Label, Mismatch, ModuleOverlap, Side
from gradience_analysis.audit.pickled import converted_weights
from gradience_analysis.diagnostics.adapter_dominance import changes_base
from gradience_analysis.errors import InputError
from gradience_analysis.linalg import Overlap, overlap
from gradience_analysis.linalg.spectrum import Factor
from gradience_analysis.model import plural
from gradience_analysis.policy import Policy, Threshold, load_policy

__all__ = ["LABELS", "AdapterOverlap", "Label", "Mismatch", "ModuleOverlap", "Side", "compare_adapters", "label_of"]

_OWNER = "adapter_overlap"
_LEAST_SHARE = 1e-6


def compare_adapters(
    a: str | Path,
    b: str | Path,
    *,
    adapter_a: str | None = None,
    adapter_b: str | None = None,
    policy: Policy | None = None,
    allow_pickle: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> AdapterOverlap:
    """The update of one adapter beside that of another, module by module, in O((out + in) r²) each.

    Subspaces are those of the fewest singular vectors that hold `adapter_overlap.energy` of each update's energy, so
    that directions which carry next to nothing do not dilute the overlap of those that carry the update.

    Args:
        a: Folder of the first.
        b: Folder of the second.
        adapter_a: Name of the adapter, of a folder that holds several.
        adapter_b: The same of the second.
        policy: Thresholds of the labels; those shipped when not given.
        allow_pickle: Whether weights that are a pickle are converted in a process of its own; they are refused
            otherwise.
        progress: Called with the number of modules compared and their total.

    Returns:
        The comparison; without rows where the two adapt nothing in common.

    Raises:
        InputError: One of them cannot be read, or holds several adapters of which none was chosen.
    """
    limits = (policy or load_policy()).under(_OWNER)
    with (
        converted_weights(Path(a), None, adapter_a, allowed=allow_pickle) as from_a,
        converted_weights(Path(b), None, adapter_b, allowed=allow_pickle) as from_b,
        open_adapter(Path(a), adapter=adapter_a, converted=from_a) as first,
        open_adapter(Path(b), adapter=adapter_b, converted=from_b) as second,
    ):
        left, right = _modules(first, a), _modules(second, b)
        shapes = {name: (_shape(module), _shape(right[name])) for name, module in left.items() if name in right}
        fitting = [name for name, (shape_a, shape_b) in shapes.items() if shape_a == shape_b]
        rows: list[ModuleOverlap] = []
        for done, name in enumerate(fitting, 1):
            rows.append(_compared(first, left[name], second, right[name], limits))
            if progress is not None:
                progress(done, len(fitting))
        return AdapterOverlap(
            a=_side(first, a),
            b=_side(second, b),
            rows=tuple(rows),
            mismatched=tuple(Mismatch(name, *both) for name, both in shapes.items() if both[0] != both[1]),
            only_a=tuple(name for name in left if name not in right),
            only_b=tuple(name for name in right if name not in left),
            thresholds=limits,
            remarks=tuple(_remarks(first, second, [*left.values(), *right.values()])),
        )


def subspace_deviation(i: int, j: int, dimension: int) -> float:
    """Standard deviation of φ = ‖UᵀV‖_F² / min(i, j) over random subspaces of i and j dimensions.

    sqrt(2 i j (d - i)(d - j) / (d² (d - 1)(d + 2))) / min(i, j), from the second moments of a random projection
    (Haar measure on the orthogonal group); 0 where one of them is the whole space.

    Args:
        i: Dimension of the first, 1 to d.
        j: Dimension of the second, 1 to d.
        dimension: d.
    """
    if dimension <= 1:
        return 0.0
    squares = 2 * i * j * (dimension - i) * (dimension - j) / (dimension**2 * (dimension - 1) * (dimension + 2))
    return math.sqrt(squares) / min(i, j)


def _modules(opened: OpenedAdapter, path: str | Path) -> dict[str, LoraModule]:
    found: dict[str, LoraModule] = {}
    for module in opened.inventory.modules:
        if module.name in found:
            names = ", ".join(shown(name) for name in sorted({one.adapter for one in opened.inventory.modules}))
            raise InputError(str(path), f"holds several adapters ({names}).", "Say which of them to compare.")
        found[module.name] = module
    return found


def _side(opened: OpenedAdapter, path: str | Path) -> Side:
    inventory = opened.inventory
    return Side(
        path=Path(path),
        name=opened.name,
        modules=len(inventory.modules),
        lora_keys=inventory.lora_keys,
        left_out=inventory.left_out,
        base_model=(opened.config.base_model or "") if opened.config is not None else "",
    )


def _compared(
    first: OpenedAdapter, one: LoraModule, second: OpenedAdapter, other: LoraModule, limits: Mapping[str, Threshold]
) -> ModuleOverlap:
    a1, b1 = first.factors(one)
    a2, b2 = second.factors(other)
    # Directions and subspaces do not depend on a scaling; where one is not known, sizes cannot be compared.
    known = one.scaling is not None and other.scaling is not None
    scale1 = one.scaling if one.scaling is not None and known else 1.0
    scale2 = other.scaling if other.scaling is not None and known else 1.0
    out, into = _shape(one)
    row = ModuleOverlap(
        name=one.name,
        module_type=module_type(one.name),
        layer=layer_index(one.name),
        shape=(out, into),
        r_a=one.r,
        r_b=other.r,
        direction_baseline=1 / math.sqrt(out * into),
        magnitude_ratio=math.nan if known else None,
    )
    share = min(max(_values(limits)["energy"], _LEAST_SHARE), 1.0)
    try:
        found = overlap(a1, b1, a2, b2, scale1=scale1, scale2=scale2, energy=share)
    except ValueError:
        # Looking for NaN and infinity beforehand would be a further pass over every factor.
        reason = _not_finite((a1, b1), (a2, b2))
        if not reason:
            raise
        return replace(row, reason=reason)
    except OverflowError:
        return replace(row, reason="an update is larger than floating-point numbers can be")
    row = replace(row, magnitude_ratio=found.magnitude_ratio if known else None, reason=_zero(found))
    if row.reason:
        return row
    label, reason = label_of(found, row.magnitude_ratio, out, limits)
    return replace(
        row,
        rank_a=found.rank_a,
        rank_b=found.rank_b,
        left=min(found.left, 1.0),  # a mean of squared cosines that rounding may lift above 1
        left_baseline=found.left_baseline,
        right=min(found.right, 1.0),
        right_baseline=found.right_baseline,
        direction=max(-1.0, min(found.direction, 1.0)),
        label=label,
        reason=reason,
    )


def label_of(found: Overlap, ratio: float | None, out: int, limits: Mapping[str, Threshold]) -> tuple[Label, str]:
    """The label of a module, and why where it is `unclear`; the first of these that holds decides.

    1. imbalanced: one norm is at least `imbalanced` times the other, so that adding the smaller update changes the
       larger one by a share of at most 1 / `imbalanced`, whatever their directions.
    2. redundant, conflicting: the cosine of the updates reaches a limit, and is too large for chance.
    3. orthogonal: the left subspaces have no more in common than chance gives. The left ones decide, because updates
       interfere where they write; the right ones can agree for no better reason than that both adapters began from the
       same random lora_A.
    4. partial: the rest.

    Args:
        found: The module's overlap, of two updates that are not 0.
        ratio: ‖a‖_F / ‖b‖_F; None where it is not known.
        out: Rows of the update, the dimension that its left subspaces lie in.
        limits: The thresholds `adapter_overlap.*`.
    """
    limit = _values(limits)
    if ratio is not None and (ratio >= limit["imbalanced"] or ratio * limit["imbalanced"] <= 1):
        return "imbalanced", ""
    telling = abs(found.direction) >= limit["chance"] * found.direction_baseline
    if telling and found.direction >= limit["redundant"]:
        return "redundant", ""
    if telling and found.direction <= -limit["conflicting"]:
        return "conflicting", ""
    baseline = found.left_baseline
    if baseline >= 1:
        return "unclear", "the ranks fill the whole output space, where any two updates overlap"
    excess = found.left - baseline
    by_chance = limit["chance"] * subspace_deviation(found.rank_a, found.rank_b, out)
    if excess <= max(limit["orthogonal"] * (1 - baseline), by_chance):
        return "orthogonal", ""
    return "partial", ""


def _values(limits: Mapping[str, Threshold]) -> dict[str, float]:
    return {name.partition(".")[2]: one.value for name, one in limits.items()}


def _not_finite(first: tuple[Factor, Factor], second: tuple[Factor, Factor]) -> str:
    """Which adapter's factors hold NaN or infinity; empty when none does."""
    for factors, which in ((first, "first"), (second, "second")):
        if not all(np.isfinite(factor).all() for factor in factors):
            return f"a factor of the {which} adapter holds values that are not finite"
    return ""


def _zero(found: Overlap) -> str:
    """Which update is zero; empty when none is."""
    zero = [which for rank, which in ((found.rank_a, "first"), (found.rank_b, "second")) if not rank]
    return f"the update of the {' and of the '.join(zero)} adapter is zero" if zero else ""


def _shape(module: LoraModule) -> tuple[int, int]:
    """(outputs, inputs) of lora_B @ lora_A; an embedding's delta_w is its transpose, and its outputs are columns."""
    rows, columns = module.shape
    return (columns, rows) if module.layout is Layout.EMBEDDING else (rows, columns)


def _remarks(first: OpenedAdapter, second: OpenedAdapter, modules: Sequence[LoraModule]) -> Iterator[str]:
    bases = [opened.config.base_model if opened.config else None for opened in (first, second)]
    if all(bases) and bases[0] != bases[1]:
        yield (
            f"The configs name different base models ({shown(bases[0] or '')} and {shown(bases[1] or '')}): updates of "
            f"different weights have no directions in common to compare."
        )
    if any(module.magnitude is not None for module in modules):
        yield "DoRA: only the low-rank parts are compared, not the magnitude vectors that scale the rows besides."
    unknown = sum(module.scaling is None for module in modules)
    if unknown:
        yield f"The scaling of {plural(unknown, 'module')} is not known: sizes are not compared there."
    inits = {opened.config.init_lora_weights for opened in (first, second) if opened.config}
    for how in sorted(how for how in inits if isinstance(how, str) and changes_base(how)):
        yield (
            f"The initialisation {shown(how)} took a part of the base's weights into the adapter: two such adapters "
            f"agree in that part before any training."
        )
