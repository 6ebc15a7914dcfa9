"""The base model's norms beside each module's update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gradience_analysis.adapters.opened import OpenedAdapter
from gradience_analysis.audit.result import BaseRequest, BaseUsed
from gradience_analysis.audit.spectra import ModuleSpectrum
from gradience_analysis.base_weights import BaseNorm, BaseWeights, base_norms, dora_norms, open_base
from gradience_analysis.base_weights.dora import DoraShapeError
from gradience_analysis.linalg import NormEstimate


@dataclass(frozen=True, slots=True)
class Dominance:
    """What was measured of the base.

    Attributes:
        used: Which base, and how.
        norms: Module → norms of its weight.
        reasons: Module → why there are none.
        whole: Module with a magnitude vector → norms of the whole change of its weight.
    """

    used: BaseUsed
    norms: Mapping[str, BaseNorm]
    reasons: Mapping[str, str]
    whole: Mapping[str, NormEstimate] = field(default_factory=dict[str, NormEstimate])


def dominance(opened: OpenedAdapter, modules: Sequence[ModuleSpectrum], request: BaseRequest) -> Dominance:
    """Measure the base weights of all modules; of those with a magnitude vector, the whole change of the weight, too.

    Raises:
        InputError: The base cannot be read, or holds no weights.
    """
    base = open_base(Path(request.path))
    found = base_norms(
        base,
        [one.module for one in modules],
        tolerance=request.tolerance,
        cache=request.cache,
        progress=request.progress,
    )
    norms, reasons = dict(found.by_module), dict(found.unmatched)
    used = BaseUsed(
        path=request.path,
        quantization=base.quantization,
        tolerance=request.tolerance,
        matched=len(norms),
        cached=sum(norm.cached for norm in norms.values()),
        remarks=tuple(found.remarks),
    )
    whole = _whole_changes(opened, modules, base, norms, reasons, request)
    return Dominance(used, norms, reasons, whole)


def _whole_changes(  # noqa: PLR0917 - what was measured, and what is to be
    opened: OpenedAdapter,
    modules: Sequence[ModuleSpectrum],
    base: BaseWeights,
    norms: Mapping[str, BaseNorm],
    reasons: dict[str, str],
    request: BaseRequest,
) -> dict[str, NormEstimate]:
    """Norms of diag(m / row norms of W + delta_w) (W + delta_w) - W, where there is an m, a W and a scaling.

    A magnitude vector that does not fit its module goes to `reasons`.
    """
    whole: dict[str, NormEstimate] = {}
    for one in modules:
        module = one.module
        magnitude = opened.magnitude(module)
        if magnitude is None or module.scaling is None or module.name not in norms:
            continue
        pair = opened.factors(module)
        transposed = bool(opened.config and opened.config.fan_in_fan_out)
        try:
            whole[module.name] = dora_norms(
                base, module, *pair, module.scaling, magnitude, fan_in_fan_out=transposed, tolerance=request.tolerance
            )
        except DoraShapeError as error:
            reasons[module.name] = str(error)
    return whole
