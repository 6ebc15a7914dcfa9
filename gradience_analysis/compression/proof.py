"""The proof: a compressed adapter is read back and held against the original before it gets its name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradience_analysis.adapters.factors import LoraModule
from gradience_analysis.adapters.keys import Role, classify
from gradience_analysis.adapters.opened import open_adapter
from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.compression.folded import Written
from gradience_analysis.compression.originals import AdapterTensors, Pair, split
from gradience_analysis.compression.plan import PlannedLayer
from gradience_analysis.compression.truncating import difference
from gradience_analysis.errors import InputError

# Largest relative error of rounding one value, and the smallest magnitude above 0, by number format.
_ROUNDING: Mapping[str, float] = {"F64": 2.0**-53, "F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8}
_SMALLEST: Mapping[str, float] = {"F64": 0.0, "F32": 2.0**-149, "F16": 2.0**-24, "BF16": 2.0**-133}
_OWN = 1e-7
"""Share of ‖delta_w‖_F that the computation itself may err by, besides rounding to the number format."""
_PIECE = 1 << 20


def measure(
    out: Path, folder: Path, tensors: AdapterTensors, planned: Sequence[PlannedLayer], written: Written
) -> list[float]:
    """Frobenius norm of delta_w as written minus delta_w of the original, of every layer, from the written files.

    Rank and scaling of the new layers come from the new config, looked up as PEFT looks them up; what was copied is
    compared byte for byte.

    Args:
        out: The name that the folder is to get, for messages.
        folder: The written folder.
        tensors: The tensors of the original.
        planned: What was to happen to its layers.
        written: What was given to the writer.

    Raises:
        InputError: What was written is not what was planned: a layer is missing or has another rank, a copied tensor
            differs, or an error is beyond what the cut and the rounding of the number format explain.
    """
    with open_adapter(folder) as opened, AdapterTensors(opened) as new:
        if opened.inventory.left_out or set(new.entries) != set(written.tensors):
            raise _failed(out, "holds other tensors than it was given")
        modules = {module.a.name: module for module in reversed(opened.inventory.modules)}
        proof = _Proof(out, tensors, new, modules, written)
        found = [proof.error_of(one) for one in planned]
        for name in opened.inventory.whole_tensors:
            proof.compare(name, name)
    return found


@dataclass(frozen=True, slots=True)
class _Proof:
    out: Path
    old: AdapterTensors
    new: AdapterTensors
    modules: Mapping[str, LoraModule]
    written: Written

    def error_of(self, one: PlannedLayer) -> float:
        """The error of one layer; 0 for one that is what it was, but for a scaling that went into lora_B unrounded."""
        layer, name = one.layer, shown(one.layer.name)
        module = self.modules.get(self.written.names[layer.a.name])
        if module is None or module.r != one.rank or module.declared_r not in {None, one.rank}:
            raise _failed(self.out, f"does not give {name} the rank {one.rank:,}")
        if module.scaling is None:
            raise _failed(self.out, f"does not give {name} a scaling that can be told")
        wide = "F64" in {layer.a.dtype, layer.b.dtype, module.a.dtype, module.b.dtype}
        a, b = (self.new.array(place.name, "float64" if wide else "float32") for place in (module.a, module.b))
        errors: list[float] = []
        for was, now in zip(self.old.pairs(layer), split(layer.layout, a, b, layer.parts), strict=True):
            same = bool(one.kept_because) and _same(was, layer.scaling, now, module.scaling)
            errors.append(0.0 if same else difference(was, layer.scaling, now, module.scaling))
        error = math.hypot(*errors)
        if not error <= _allowed(one, module):
            raise _failed(
                self.out,
                f"errs by {error:.3g} in {name}, where {one.predicted:.3g} was predicted",
                "Give --dtype float32: the number format may be too narrow for these values.",
            )
        self._compare_companions(one, module.scaling)
        return error

    def compare(self, old: str, new: str) -> None:
        """Refuse a copied tensor that is not what it was, byte for byte."""
        was, now = self.old.entries[old], self.new.entries[new]
        if (was.dtype, was.shape) != (now.dtype, now.shape) or not _equal(self.old.bytes(old), self.new.bytes(new)):
            raise _failed(self.out, f"has another {shown(new)}")

    def _compare_companions(self, one: PlannedLayer, scaling: float) -> None:
        """A magnitude is what it was; a bias of lora_B, which PEFT scales, too, is it up to rounding."""
        for old in one.layer.first.keys:
            role, new = classify(old).role, self.written.names[old]
            if role is Role.MAGNITUDE:
                self.compare(old, new)
            elif role is Role.BIAS:
                dtype = self.new.entries[new].dtype
                was = self.old.array(old, "float64") * one.layer.scaling
                now = self.new.array(new, "float64") * scaling
                margin, floor = 2 * _ROUNDING.get(dtype, 0.0) + 1e-12, 2 * _SMALLEST.get(dtype, 0.0)
                if not np.allclose(now, was, rtol=margin, atol=floor):
                    raise _failed(self.out, f"has another {shown(new)}")


def _same(old: Pair, old_scaling: float, new: Pair, scaling: float) -> bool:
    """Whether the factors are equal, but for the scaling of the one that is in lora_B of the other."""
    factor = old_scaling / scaling if scaling else 1.0
    # A scaling that went through alpha = s · r may be one unit in its last place off.
    factor = 1.0 if math.isclose(factor, 1.0, rel_tol=1e-15) else factor
    return np.array_equal(old[0], new[0]) and np.array_equal(old[1].astype(np.float64) * factor, new[1])


def _allowed(one: PlannedLayer, module: LoraModule) -> float:
    """The largest error that the cut and the rounding of both factors explain.

    Rounding a factor F changes it by at most u ‖F‖_F, and the product by that times the spectral norm of the other:
    for balanced factors 2 u sqrt(σ₁ Σσ) in all, and for any others at most what their norms give. Values below the
    format's range err by its smallest one.
    """
    u = max(_ROUNDING.get(place.dtype, 0.0) for place in (module.a, module.b))
    small = max(_SMALLEST.get(place.dtype, 0.0) for place in (module.a, module.b))
    squares = 0.0
    for numbers in one.measured:
        factors = numbers.factors
        sigma = factors.sigma[: one.part_rank]
        top, total = float(sigma[0]), float(sigma.sum())
        rounding = 2.0 * u * math.sqrt(top * total)
        if one.kept_because:
            # Kept factors are as they were, not balanced.
            rounding = 2.0 * u * factors.scaling * factors.norm_a * factors.norm_b
        floor = small * math.sqrt(sum(factors.shape) * one.part_rank)
        # Of kept factors, the larger of the two may stand beside the smallest value of the other.
        beside = math.sqrt(top) if not one.kept_because else factors.scaling * max(factors.norm_a, factors.norm_b)
        squares += (rounding * (1 + u) + floor * (beside + floor) + _OWN * numbers.frobenius) ** 2
    return one.predicted + math.sqrt(squares)


def _equal(one: memoryview, other: memoryview) -> bool:
    if len(one) != len(other):
        return False
    return all(bytes(one[at : at + _PIECE]) == bytes(other[at : at + _PIECE]) for at in range(0, len(one), _PIECE))


def _failed(out: Path, what: str, remedy: str = "Nothing was left there; please report it.") -> InputError:
    return InputError(str(out), f"was not written: read back, it {what}.", remedy)
