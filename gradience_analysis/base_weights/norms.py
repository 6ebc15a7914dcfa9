"""Norms of the matrices of a base model that an adapter changes: the denominators of UDR."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from gradience_analysis.adapters.factors import LoraModule
from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.base_weights.cache import KeptNorm, NormCache, content_key
from gradience_analysis.base_weights.opened import BaseWeights
from gradience_analysis.base_weights.weight import Weight, WeightFault
from gradience_analysis.linalg.norms import NormEstimate, matrix_norms

DEFAULT_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class BaseNorm:
    """Norms of one matrix W of the base model.

    Attributes:
        tensor: The tensor that holds it, or its first part.
        file: Name of the file that holds that tensor.
        shape: Its dimensions as stored, a convolution's flattened; of a packed weight, (out, in).
        spectral: ‖W‖₂, a lower bound that is certified to `tolerance`.
        frobenius: ‖W‖_F.
        tolerance: Relative tolerance that was asked for.
        residual: ‖WᵀW v - λv‖ / (2λ) that was reached, with spectral = √λ.
        steps: Passes over the matrix.
        converged: residual ≤ tolerance.
        quantization: How it is packed: `bnb-nf4`, `bnb-fp4`, `bnb-int8`, `gptq-4bit` (2, 3, 8), `awq-4bit`, `fp8`;
            empty when it is not. The norms are those of the dequantised weight.
        cached: Whether the norms come from the cache.
        part: What of the tensor it is, where it is not the whole, such as `expert 3`.
    """

    tensor: str
    file: str
    shape: tuple[int, int]
    spectral: float
    frobenius: float
    tolerance: float
    residual: float
    steps: int
    converged: bool
    quantization: str
    cached: bool
    part: str = ""


@dataclass(frozen=True, slots=True)
class BaseNorms:
    """The norms of all modules that were asked for; each module is in exactly one of the two mappings.

    Attributes:
        by_module: Module name → norms of the matrix that it changes.
        unmatched: Module name → why there are none, as a sentence.
        remarks: What else must be known, as sentences: a tied output layer, a cache that could not be used.
    """

    by_module: Mapping[str, BaseNorm] = field(default_factory=dict[str, BaseNorm])
    unmatched: Mapping[str, str] = field(default_factory=dict[str, str])
    remarks: tuple[str, ...] = ()


def base_norms(
    base: BaseWeights,
    modules: Sequence[LoraModule],
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BaseNorms:
    """‖W‖₂ and ‖W‖_F of the matrix that each module changes, streamed: memory stays within about 150 MB.

    Args:
        base: The base model.
        modules: Modules of an adapter. A matrix that several of them change is measured once.
        tolerance: Relative tolerance of ‖W‖₂ (`linalg.matrix_norms`).
        cache: JSON file that keeps norms from one call to the next, by the content of the tensors; made when it is
            missing. One that cannot be used is said in `remarks`, and does not stop the work.
        progress: Called with (matrices done, of how many) before the first and after each.

    Raises:
        InputError: A file of the base cannot be read any more.
    """
    found, unmatched, remarks = _match(base, modules)
    kept = NormCache(cache)
    norms: dict[tuple[object, ...], BaseNorm | str] = {}
    groups = _by_matrix(found)
    if progress is not None:
        progress(0, len(groups))
    for done, (identity, weight) in enumerate(groups.items(), start=1):
        norms[identity] = _norm(weight, tolerance, kept)
        if progress is not None:
            progress(done, len(groups))
    by_module: dict[str, BaseNorm] = {}
    for name, weight in found.items():
        norm = norms[_identity(weight)]
        if isinstance(norm, BaseNorm):
            by_module[name] = norm
        else:
            unmatched[name] = norm
    remarks += kept.save()
    return BaseNorms(by_module, unmatched, tuple(dict.fromkeys(remarks)))


def _match(base: BaseWeights, modules: Iterable[LoraModule]) -> tuple[dict[str, Weight], dict[str, str], list[str]]:
    """The matrices by module, the modules without one, and remarks."""
    found: dict[str, Weight] = {}
    unmatched: dict[str, str] = {}
    remarks: list[str] = []
    for module in modules:
        match = base.match(module)
        if match.weight is None:
            unmatched[module.name] = match.reason
        else:
            found[module.name] = match.weight
            remarks += [match.remark] if match.remark else []
    return found, unmatched, remarks


def _identity(weight: Weight) -> tuple[object, ...]:
    return (weight.tensor, weight.part)


def _by_matrix(found: Mapping[str, Weight]) -> dict[tuple[object, ...], Weight]:
    """Each matrix once, in the order in which the files hold them."""
    ordered = sorted(found.values(), key=lambda weight: (weight.parts[0].file, weight.parts[0].entry.begin))
    return {_identity(weight): weight for weight in ordered}


def _norm(weight: Weight, tolerance: float, cache: NormCache) -> BaseNorm | str:
    """The norms of one matrix, or why it has none."""
    key = content_key(weight) if cache.used else ""
    kept = cache.get(key, tolerance)
    if kept is not None:
        return _named(weight, kept, cached=True)
    estimate = _estimate(weight, tolerance)
    if isinstance(estimate, str):
        return estimate
    spectral, frobenius, residual = float(estimate.spectral), float(estimate.frobenius), float(estimate.residual)
    computed = KeptNorm(weight.tensor, spectral, frobenius, tolerance, residual, int(estimate.steps))
    if estimate.converged:
        cache.put(key, computed)
    return replace(_named(weight, computed, cached=False), converged=bool(estimate.converged))


def _estimate(weight: Weight, tolerance: float) -> NormEstimate | str:
    """The same computed, with finite norms."""
    if 0 in weight.shape:
        return f"The base's {shown(weight.tensor)} holds no values."
    try:
        with closing(weight.open()) as rows:
            estimate = matrix_norms(rows, tolerance=tolerance)
    except WeightFault as fault:
        return fault.reason
    if estimate.nonfinite:
        return f"The base's {shown(weight.tensor)} holds {estimate.nonfinite:,} values that are NaN or infinite."
    if not (math.isfinite(estimate.spectral) and math.isfinite(estimate.frobenius)):
        return f"The base's {shown(weight.tensor)} is too large for its norms to be computed."
    return estimate


def _named(weight: Weight, norm: KeptNorm, *, cached: bool) -> BaseNorm:
    return BaseNorm(
        tensor=weight.tensor,
        file=weight.parts[0].file.name,
        shape=weight.shape,
        spectral=norm.spectral,
        frobenius=norm.frobenius,
        tolerance=norm.tolerance,
        residual=norm.residual,
        steps=norm.steps,
        converged=True,
        quantization=weight.quantization,
        cached=cached,
        part=weight.part,
    )
