"""Where the energy lies: shares by layer and how concentrated they are, against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.audit.energy import concentration
from tests.analysis.audit.rows import row

NORMS = st.floats(1e-6, 1e6)


def layered(norms: dict[int, list[float]]) -> list:
    """Modules of layers, each with one singular value."""
    return [
        row(f"model.layers.{layer}.m{place}.x", [norm])
        for layer, several in norms.items()
        for place, norm in enumerate(several)
    ]


@given(st.dictionaries(st.integers(0, 200), st.lists(NORMS, min_size=1, max_size=3), min_size=1, max_size=40))
def test_shares_are_those_of_the_squared_norms(norms: dict[int, list[float]]) -> None:
    """Given norms by layer, when their spread is taken, then every figure is that of the sums of squares."""
    found = concentration(layered(norms))
    assert found is not None
    energy = {layer: float(np.sum(np.square(several))) for layer, several in norms.items()}
    total = sum(energy.values())
    shares = np.sort([value / total for value in energy.values()])[::-1]
    assert list(found.shares) == sorted(norms)
    assert found.shares == pytest.approx({layer: value / total for layer, value in energy.items()})
    assert found.top == pytest.approx(shares[:3].sum())
    assert found.top_tenth == pytest.approx(shares[: math.ceil(len(shares) / 10)].sum())
    assert found.herfindahl == pytest.approx(np.square(shares).sum())
    assert 1 / len(shares) - 1e-9 <= found.herfindahl <= 1 + 1e-9
    assert sum(found.shares[layer] for layer in found.top_layers) == pytest.approx(found.top)


def test_equal_layers_and_one_layer_are_the_two_ends() -> None:
    """Given equal layers, or energy in one alone, when the spread is taken, then the index is 1/n, or 1."""
    equal = concentration(layered({layer: [2.0] for layer in range(20)}))
    assert equal is not None
    assert equal.herfindahl == pytest.approx(1 / 20)
    assert (equal.top, equal.top_tenth) == pytest.approx((3 / 20, 2 / 20))
    assert equal.top_layers == (0, 1, 2)
    alone = concentration(layered({0: [0.0], 1: [3.0], 2: [0.0]}))
    assert alone is not None
    assert (alone.herfindahl, alone.top, alone.top_tenth) == (1, 1, 1)
    assert alone.top_layers[0] == 1


@given(st.floats(1e-3, 1e3))
def test_the_scale_does_not_matter(factor: float) -> None:
    """Given a multiple of an adapter, when its spread is taken, then it is the same."""
    norms = {0: [1.0, 2.0], 1: [0.5], 7: [3.0]}
    one, other = (
        concentration(layered(norms)),
        concentration(layered({layer: [factor * norm for norm in several] for layer, several in norms.items()})),
    )
    assert one is not None
    assert other is not None
    assert other.shares == pytest.approx(one.shares)
    assert other.top_layers == one.top_layers


def test_what_stands_in_no_layer_is_left_out() -> None:
    """Given a head beside layers, when the spread is taken, then its energy is in no share."""
    found = concentration([*layered({0: [1.0], 1: [1.0]}), row("lm_head", [100.0])])
    assert found is not None
    assert found.shares == {0: 0.5, 1: 0.5}


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row("lm_head", [1.0])],
        layered({0: [0.0], 1: [0.0]}),
        [row("model.layers.0.x", [1.0], scaling=None), row("model.layers.1.x", [1.0])],
    ],
    ids=["no rows", "no layer", "no energy", "an unknown scaling"],
)
def test_without_an_answer_there_is_none(rows: list) -> None:
    """Given nothing to compare, or a norm that is not known, when the spread is asked for, then it is None."""
    assert concentration(rows) is None


def test_the_plain_form_has_every_figure() -> None:
    """Given a spread, when made plain, then layers are counted, and keys are text as JSON has them."""
    found = concentration(layered({0: [1.0], 12: [2.0]}))
    assert found is not None
    assert found.to_dict() == {
        "layers": 2,
        "shares": {"0": pytest.approx(0.2), "12": pytest.approx(0.8)},
        "top_layers": [12, 0],
        "top_3": pytest.approx(1.0),
        "top_10_percent": pytest.approx(0.8),
        "herfindahl": pytest.approx(0.68),
    }
