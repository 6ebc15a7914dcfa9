"""The factors of an adapter, put together by module."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gradience_analysis.adapter_check.facts import AdapterFacts, TensorFact
from gradience_analysis.adapters.pairing import pair_factors

_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Pair:
    """The two factors of a module.

    Attributes:
        a: The factor next to the module's input.
        b: The factor next to its output.
        e: AdaLoRA's diagonal between them, else None.
        magnitude: Whether the module has a DoRA magnitude vector.
    """

    a: TensorFact
    b: TensorFact
    e: TensorFact | None = None
    magnitude: bool = False

    @property
    def module(self) -> str:
        """The module's name."""
        return self.a.key.module


@dataclass(frozen=True, slots=True)
class Factors:
    """Every factor of an adapter.

    Attributes:
        pairs: Modules with both factors, in the order of the file.
        unpaired: Factors whose counterpart is missing.
    """

    pairs: tuple[Pair, ...]
    unpaired: tuple[TensorFact, ...]


def factors(facts: AdapterFacts) -> Factors:
    """The factors of an adapter by module, adapter name and layout."""
    found = pair_factors(facts.tensors)
    pairs = tuple(Pair(one.a, one.b, one.e, one.magnitude is not None) for one in found.pairs)
    return Factors(pairs, found.unpaired)


def sample(items: Iterable[str]) -> list[str]:
    """The first five, for evidence that stays readable."""
    return list(items)[:_SAMPLES]


def named(items: Sequence[str], total: int) -> str:
    """`a`, `a and b`, or `a and 4 more`: a few names in a sentence."""
    if total == 1:
        return items[0]
    return f"{items[0]} and {items[1]}" if total == 2 else f"{items[0]} and {total - 1:,} more"
