"""The singular values of every module of an adapter, in one pass over its factors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradience_analysis.adapter_check.facts import TensorValues
from gradience_analysis.adapters.factors import LeftOut, LoraModule
from gradience_analysis.adapters.opened import OpenedAdapter
from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.linalg import Grams, exact_spectrum, grams, spectra
from gradience_analysis.linalg.spectrum import FloatArray
from gradience_analysis.model import plural

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ModuleSpectrum:
    """One module's factors as numbers.

    Attributes:
        module: The module.
        sigma: Singular values of lora_B @ lora_A without the scaling, descending, r of them.
        norm_a, norm_b: Frobenius norms of the factors.
    """

    module: LoraModule
    sigma: FloatArray
    norm_a: float
    norm_b: float


@dataclass(frozen=True, slots=True)
class Spectra:
    """The spectra of an adapter.

    Attributes:
        modules: Those that could be taken, in the order of the inventory.
        left_out: Modules with a value that is NaN or infinite, which have none.
        values: (file, tensor) → what the values of the tensor show.
    """

    modules: tuple[ModuleSpectrum, ...]
    left_out: tuple[LeftOut, ...]
    values: dict[tuple[str, str], TensorValues]


def adapter_spectra(opened: OpenedAdapter) -> Spectra:
    """The spectra of all modules of an opened adapter.

    Each factor is read once, and only its Gram matrix (r, r) is kept; the small problems of all modules are solved
    together. A module whose small values drown in that is read again and solved by QR.
    """
    modules = opened.inventory.modules
    found = [grams(*opened.factors(module)) for module in modules]
    solved = spectra(found)
    taken: list[ModuleSpectrum] = []
    left_out: list[LeftOut] = []
    values: dict[tuple[str, str], TensorValues] = {}
    for module, gram, spectrum in zip(modules, found, solved, strict=True):
        finite = bool(np.isfinite(gram.a).all() and np.isfinite(gram.b).all())
        if finite and spectrum.certain:
            taken.append(_spectrum(module, gram, spectrum.values))
            # The Gram matrix of AdaLoRA's A has its diagonal in it, so that a zero there is not one of A.
            if module.e is None and module.expert is None:
                values |= _values(module, gram)
            continue
        again = _again(opened, module, gram, finite=finite)
        if isinstance(again, LeftOut):
            left_out.append(again)
        else:
            taken.append(again)
    return Spectra(tuple(taken), tuple(left_out), values)


def _spectrum(module: LoraModule, gram: Grams, sigma: FloatArray) -> ModuleSpectrum:
    return ModuleSpectrum(module, sigma, math.sqrt(float(np.trace(gram.a))), math.sqrt(float(np.trace(gram.b))))


def _values(module: LoraModule, gram: Grams) -> dict[tuple[str, str], TensorValues]:
    """What finite Gram matrices show of the factors: their traces are the sums of squares."""
    pairs = ((module.a, gram.a), (module.b, gram.b))
    return {
        (place.file, place.name): TensorValues(math.prod(place.shape), zero=float(np.trace(matrix)) == 0)
        for place, matrix in pairs
        if math.prod(place.shape)
    }


def _again(opened: OpenedAdapter, module: LoraModule, gram: Grams, *, finite: bool) -> ModuleSpectrum | LeftOut:
    """A module whose Gram matrices do not tell: small values drown in them, or they are not finite."""
    lora_a, lora_b = opened.factors(module, "float64")
    if finite:
        return _spectrum(module, gram, exact_spectrum(lora_a, lora_b))
    if not (np.isfinite(lora_a).all() and np.isfinite(lora_b).all()):
        return _nonfinite(module, lora_a, lora_b)
    size_a, size_b = (float(np.abs(factor).max()) for factor in (lora_a, lora_b))
    lora_a, lora_b = lora_a / size_a, lora_b / size_b
    sigma = exact_spectrum(lora_a, lora_b) * size_a * size_b
    norm_a, norm_b = (float(np.linalg.norm(factor)) for factor in (lora_a, lora_b))
    return ModuleSpectrum(module, sigma, norm_a * size_a, norm_b * size_b)


def _nonfinite(module: LoraModule, lora_a: NDArray[Any], lora_b: NDArray[Any]) -> LeftOut:
    bad = [int((~np.isfinite(factor)).sum()) for factor in (lora_a, lora_b)]
    names = [shown(place.name) for place, count in zip((module.a, module.b), bad, strict=True) if count]
    sentence = (
        f"{plural(sum(bad), 'value')} of {' and '.join(names)} {'is' if sum(bad) == 1 else 'are'} NaN or infinite."
    )
    return LeftOut(module.name, module.keys, "nonfinite", sentence)
