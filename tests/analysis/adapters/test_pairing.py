"""Pairing: which factors belong together, from names alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.adapters.keys import PAIRS, Role, TensorKey, classify
from gradience_analysis.adapters.pairing import pair_factors

X = "base_model.model.x"


@dataclass(frozen=True)
class Named:
    """A tensor of which only the name matters; two of one name are two tensors."""

    key: TensorKey
    number: int


def named(*names: str) -> list[Named]:
    """Tensors of these names."""
    return [Named(classify(name), number) for number, name in enumerate(names)]


def test_parts_of_a_module_are_put_together() -> None:
    """Given the tensors of a DoRA module in any order, when paired, then each is in its place of one pair."""
    items = named(f"{X}.lora_magnitude_vector", f"{X}.lora_B.bias", f"{X}.lora_B.weight", f"{X}.lora_A.weight")
    found = pair_factors(items)
    (pair,) = found.pairs
    assert (pair.a, pair.b, pair.e, pair.magnitude, pair.bias) == (items[3], items[2], None, items[0], items[1])
    assert pair.parts == (items[3], items[2], items[0], items[1])
    assert (found.unpaired, found.stray, found.repeated) == ((), (), ())


def test_layouts_and_adapters_are_kept_apart() -> None:
    """Given factors of different adapters and layouts under one module, when paired, then none are mixed."""
    items = named(
        f"{X}.lora_A.one.weight",
        f"{X}.lora_B.two.weight",
        f"{X}.lora_embedding_A",
        f"{X}.lora_B",
        "y.lora_A",
        "y.lora_E",
        "y.lora_B",
    )
    found = pair_factors(items)
    (pair,) = found.pairs
    assert (pair.a, pair.b, pair.e) == (items[4], items[6], items[5])
    assert found.unpaired == tuple(items[:4])


def test_what_stands_beside_no_pair_is_stray() -> None:
    """Given a diagonal, a magnitude and a bias beside half a pair, when paired, then they are no factors."""
    items = named(f"{X}.lora_A.weight", f"{X}.lora_E", f"{X}.lora_magnitude_vector", f"{X}.lora_B.bias")
    found = pair_factors(items)
    assert (found.pairs, found.unpaired, found.stray) == ((), (items[0],), tuple(items[1:]))


def test_second_tensor_for_a_place_is_told() -> None:
    """Given one factor spelled with and without the prefix, when paired, then the later holds and the other is told."""
    items = named("x.lora_A.weight", f"{X}.lora_A.weight", f"{X}.lora_B.weight")
    found = pair_factors(items)
    (pair,) = found.pairs
    assert (pair.a, pair.b, found.repeated) == (items[1], items[2], (items[0],))


KEYS = st.builds(
    TensorKey, st.just("n"), st.sampled_from(list(Role)), st.sampled_from("xy"), st.sampled_from(["", "one"])
)
PARTS = {*PAIRS, *PAIRS.values(), Role.ADALORA_E, Role.BIAS, Role.MAGNITUDE}


@given(st.lists(KEYS, max_size=30))
def test_every_part_is_in_one_place(keys: list[TensorKey]) -> None:
    """Given any tensors, when paired, then each that is a part is in exactly one place, and no other in any."""
    numbers = count()
    items = [Named(key, next(numbers)) for key in keys]
    found = pair_factors(items)
    placed = [part for pair in found.pairs for part in pair.parts]
    placed += [*found.unpaired, *found.stray, *found.repeated]
    assert sorted(one.number for one in placed) == [one.number for one in items if one.key.role in PARTS]
    for pair in found.pairs:
        assert pair.b.key.role is PAIRS[pair.a.key.role]
        assert len({(part.key.module, part.key.adapter) for part in pair.parts}) == 1
