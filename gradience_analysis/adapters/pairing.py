"""Which factors belong together: by module, adapter name and layout, from the names of the tensors alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from gradience_analysis.adapters.keys import PAIRS, Role, TensorKey

_PARTNERS: Mapping[Role, Role] = {**PAIRS, **{second: first for first, second in PAIRS.items()}}
# What stands beside a pair, and the first factor of the pairs that it may stand beside: the first one that is there.
_COMPANIONS: Mapping[Role, tuple[Role, ...]] = {
    Role.ADALORA_E: (Role.ADALORA_A,),
    Role.MAGNITUDE: tuple(PAIRS),
    Role.BIAS: (Role.A,),
}


class Keyed(Protocol):
    """Anything that has a tensor's name, taken apart."""

    @property
    def key(self) -> TensorKey:
        """The name."""
        ...


T = TypeVar("T", bound=Keyed)
_Places: TypeAlias = "dict[tuple[str, str, Role], T]"


@dataclass(frozen=True, slots=True)
class FactorPair(Generic[T]):
    """The two factors of a module, and what stands beside them.

    Attributes:
        a: The factor next to the module's input.
        b: The factor next to its output.
        e: AdaLoRA's diagonal between them, else None.
        magnitude: DoRA's magnitude vector, else None.
        bias: The bias of lora_B, else None.
    """

    a: T
    b: T
    e: T | None = None
    magnitude: T | None = None
    bias: T | None = None

    @property
    def parts(self) -> tuple[T, ...]:
        """Everything that belongs to the pair."""
        return tuple(one for one in (self.a, self.b, self.e, self.magnitude, self.bias) if one is not None)


@dataclass(frozen=True, slots=True)
class PairedFactors(Generic[T]):
    """Every tensor of an adapter that its name calls a part of a pair. Each is in exactly one of these.

    Attributes:
        pairs: Modules with both factors, in the order of the first of them.
        unpaired: Factors whose counterpart is missing.
        stray: Diagonals, magnitudes and biases without the pair that they belong to.
        repeated: Tensors in whose place a later one stands: the same part of the same module, spelled in another way
            or held by another file.
    """

    pairs: tuple[FactorPair[T], ...]
    unpaired: tuple[T, ...]
    stray: tuple[T, ...]
    repeated: tuple[T, ...]


def pair_factors(items: Iterable[T]) -> PairedFactors[T]:
    """The factors among these tensors, put together by module, adapter name and layout.

    Args:
        items: Tensors in the order of the file; those that are no part of a pair are passed over.
    """
    by_place: _Places[T] = {}
    repeated: list[T] = []
    for item in items:
        role = item.key.role
        if role in _PARTNERS or role in _COMPANIONS:
            place = (item.key.module, item.key.adapter, role)
            if place in by_place:
                repeated.append(by_place[place])
            by_place[place] = item
    pairs: list[FactorPair[T]] = []
    unpaired: list[T] = []
    stray: list[T] = []
    for (module, adapter, role), item in by_place.items():
        if role in _COMPANIONS:
            if _home(by_place, module, adapter, role) is None:
                stray.append(item)
            continue
        partner = by_place.get((module, adapter, _PARTNERS[role]))
        if partner is None:
            unpaired.append(item)
        elif role in PAIRS:
            e, magnitude, bias = (
                by_place.get((module, adapter, one)) if _home(by_place, module, adapter, one) is role else None
                for one in _COMPANIONS
            )
            pairs.append(FactorPair(item, partner, e, magnitude, bias))
    return PairedFactors(tuple(pairs), tuple(unpaired), tuple(stray), tuple(repeated))


def _home(by_place: _Places[T], module: str, adapter: str, companion: Role) -> Role | None:
    """The first factor of the pair that something beside it belongs to; None when there is no such pair."""
    for first in _COMPANIONS[companion]:
        if (module, adapter, first) in by_place and (module, adapter, PAIRS[first]) in by_place:
            return first
    return None
